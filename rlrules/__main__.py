"""`python -m rlrules` is the `rlrules` command."""

from rlrules.cli import main

main()

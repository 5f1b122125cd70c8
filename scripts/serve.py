"""Serve a recipe's rewards: python scripts/serve.py reward_servers/cpu.yaml [key.path=value …]."""

import sys

from rlrules.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "serve")
    main()

"""`rlrules data`: build a method's training set."""

import typer

from rlrules.data.cli_constraints import constraints, thoughts
from rlrules.data.cli_gui_select import gui_select
from rlrules.data.cli_reasoning import rule_reasoning
from rlrules.data.cli_think_rm import think_rm
from rlrules.data.cli_thinking import thinking

app = typer.Typer(no_args_is_help=True, help=__doc__)
for command in (think_rm, thinking, constraints, thoughts, gui_select, rule_reasoning):
    app.command()(command)

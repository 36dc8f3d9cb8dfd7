"""``python -m suspalign_fast`` is the command line."""

from .cli.commands import main

main(prog_name="suspalign")

"""Entry point of the program.

A command lives for a second and its objects to the end: collecting while modules load costs a sixth
of the start-up. Only the program switches collection off; importing llmplan does not.
"""

import gc


def run() -> None:
    """Run the command line."""
    gc.disable()
    from llmplan.cli.main import run as run_program

    run_program()

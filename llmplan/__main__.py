"""``python -m llmplan``."""

from llmplan.cli.entry import run

if __name__ == "__main__":
    run()

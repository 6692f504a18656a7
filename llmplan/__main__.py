"""``python -m llmplan``."""

from llmplan.cli.main import run

if __name__ == "__main__":
    run()

"""Golden files: what the program prints for each command, format and typical mistake, as text.

A case is one file, ``golden/<group>/<case>.txt``: its first line is the command, the rest what came
out. To add one, write that line; ``make golden`` fills in the rest, and all files are reviewed as
text. Commands run in a folder that holds copies of ``golden/files``.
"""

import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import pytest

from llmplan import __version__
from llmplan.cli.main import app
from tests.program import Outcome, llmplan

GOLDEN = Path(__file__).parent / "golden"
FILES = GOLDEN / "files"
CASES = sorted(GOLDEN.glob("*/*.txt"))
IS_WRITING = os.environ.get("LLMPLAN_GOLDEN") == "write"
HOW_TO_WRITE = "run `make golden` (LLMPLAN_GOLDEN=write pytest tests/test_golden.py) and review it"

# what changes without a change of the program: the release, lines of the catalogue, today's date,
# and how matplotlib draws
MASKS = (
    (re.compile(r"<svg[^>]*xlink.*?</svg>", re.DOTALL), "<svg/>"),
    (re.compile(rf'(llmplan |"llmplan": "){re.escape(__version__)}'), r"\1VERSION"),
    (re.compile(r"(specs/[\w.-]+\.yaml):\d+"), r"\1:LINE"),
    (re.compile(r'(config"?: "?llama\.json"?,?\s+"?date"?: )"[\d-]+"'), r'\1"TODAY"'),
)


def shown(path: Path) -> str:
    return str(path.relative_to(GOLDEN))


def arguments_of(case: Path) -> list[str]:
    program, *arguments = shlex.split(case.read_text(encoding="utf-8").partition("\n")[0])[1:]
    assert program == "llmplan", f"{shown(case)} does not begin with `$ llmplan`"
    return arguments


def as_text(case: Path, outcome: Outcome) -> str:
    command = case.read_text(encoding="utf-8").partition("\n")[0]
    text = f"--- stdout\n{outcome.stdout}--- stderr\n{outcome.stderr}"
    for pattern, replacement in MASKS:
        text = pattern.sub(replacement, text)
    return f"{command}\nexit code {outcome.exit_code}\n{text}"


@pytest.mark.parametrize("case", CASES, ids=shown)
def test_the_output_is_as_reviewed(case, tmp_path, monkeypatch):
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))  # whatever its owner calibrated
    monkeypatch.delenv("LLMPLAN_CATALOG", raising=False)

    outcome = llmplan(*arguments_of(case))

    assert outcome.exit_code in (0, 1, 2), outcome.stderr
    text = as_text(case, outcome)
    if IS_WRITING:
        case.write_text(text, encoding="utf-8")
    assert text == case.read_text(encoding="utf-8"), HOW_TO_WRITE


def test_every_file_is_a_case_or_an_input():
    files = {path for path in GOLDEN.rglob("*") if path.is_file()}

    assert files == {*CASES, *FILES.iterdir()}


def test_no_two_cases_run_the_same_command():
    commands = [tuple(arguments_of(case)) for case in CASES]

    assert len(set(commands)) == len(commands)


def formats_of(command: Callable[..., None]) -> list[str]:
    """Choices of the command's --format; none where it has no such option."""
    return list(get_type_hints(command).get("format", ()))


def test_every_command_has_its_help_and_every_format():
    cases = {shown(case.with_suffix("")) for case in CASES}
    commands = {command.name: command.callback for command in app.registered_commands}
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    below = {
        (group, command.name): command.callback
        for group, inside in groups.items()
        for command in inside.registered_commands
    }

    wanted = {f"help/{name}" for name in (*commands, *groups, *map("-".join, below))}
    wanted |= {f"{name}/{fmt}" for name, command in commands.items() for fmt in formats_of(command)}
    wanted |= {
        f"{group}/{name}-{fmt}"
        for (group, name), command in below.items()
        for fmt in formats_of(command)
    }

    assert wanted - cases == set(), f"write the first line of each, then {HOW_TO_WRITE}"

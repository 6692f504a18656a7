"""The pages are tests: what they show is what the program prints, and every link leads somewhere.

In a ``console`` block a line that begins with ``$`` is run, and the lines below it are what it
prints. Lines of ``...`` stand for any lines; a command with nothing below it is only run. The exit
code is 0 unless the command ends in a comment such as ``# exit 1``. Remarks on stderr (``note:``)
may be left out. A ``yaml`` block whose first line is a comment with a file's name is that file.

``LLMPLAN_DOCS=write pytest tests/test_docs.py`` writes the outputs and docs/cli.md anew.
"""

import doctest
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from llmplan.cli.main import app
from tests.program import llmplan

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted([README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in {".py", ".sh"})
IS_WRITING = os.environ.get("LLMPLAN_DOCS") == "write"
HOW_TO_WRITE = "run LLMPLAN_DOCS=write pytest tests/test_docs.py and review the pages as text"

CONSOLE = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
SESSION = re.compile(r"(?<=^```pycon\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
NAMED_FILE = re.compile(r"^```yaml\n(# ([\w.-]+)\n.*?)^```$", re.MULTILINE | re.DOTALL)
ANY_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
EXIT = re.compile(r"# exit (\d+)$")
MAKE = re.compile(r"\bmake ([a-z]+)`|^\$ make ([a-z]+)", re.MULTILINE)

RUN = ("llmplan ", "python ", "sh ")
"""How a command begins that is run; ``make`` is not, everything else is no console block."""


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def pages_with(pattern: re.Pattern[str]) -> list[Path]:
    return [page for page in PAGES if pattern.search(page.read_text(encoding="utf-8"))]


@dataclass(frozen=True)
class Example:
    """A command of a page and the lines below it."""

    command: str
    output: str

    def __str__(self) -> str:
        return f"$ {self.command}\n{self.output}"


def examples(block: str) -> Iterator[Example]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Example(command, output)


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run as a reader would: the installed program, 80 columns, output not on a terminal."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    surroundings = {"COLUMNS": "80", "NO_COLOR": "1", "LC_ALL": "C.UTF-8", "PATH": programs}
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env={"HOME": str(folder), **surroundings},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def matches(output: str, printed: str) -> bool:
    """Whether a page's output is what was printed, ``...`` standing for any lines."""
    lines = output.rstrip("\n").split("\n")
    pattern = "".join(r"(?:.*\n)*" if line == "..." else re.escape(line) + "\n" for line in lines)
    return re.fullmatch(pattern, printed.rstrip("\n") + "\n") is not None


def as_run(example: Example, folder: Path) -> Example:
    """The example with the output that it has now; unchanged where that is what it shows."""
    if example.command.startswith("make "):
        return example
    assert example.command.startswith(RUN), f"`{example.command}` is not run: use a ```sh block"
    ran = shell(example.command, folder)
    stated = EXIT.search(example.command)
    assert ran.returncode == int(stated[1] if stated else 0), f"{example.command}\n{ran.stderr}"
    everything = ran.stdout + ran.stderr
    remarks = [line for line in ran.stderr.splitlines(keepends=True) if line.startswith("note: ")]
    without = ran.stdout + "".join(
        line for line in ran.stderr.splitlines(keepends=True) if line not in remarks
    )
    printed = everything if "note: " in example.output else without
    if not example.output.strip() or matches(example.output, printed):
        return example
    blank = "\n" if example.output.endswith("\n\n") else ""
    return Example(example.command, printed.rstrip("\n") + "\n" + blank)


def prepared(text: str, folder: Path) -> Path:
    """A folder like the root of a checkout, with the files that the page defines."""
    for name in ("examples", "specs", "hardware", "docs", "tests"):
        (folder / name).symlink_to(ROOT / name)
    for content, name in NAMED_FILE.findall(text):
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def check(page: Path, text: str) -> None:
    """Compare a page with what it should be, or write it."""
    if IS_WRITING:
        page.write_text(text, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == text, HOW_TO_WRITE


@pytest.mark.parametrize("page", pages_with(CONSOLE), ids=shown)
def test_commands_print_what_the_page_shows(page, tmp_path):
    text = page.read_text(encoding="utf-8")
    folder = prepared(text, tmp_path)

    now = CONSOLE.sub(
        lambda block: "".join(str(as_run(each, folder)) for each in examples(block[0])), text
    )

    check(page, now)


@pytest.mark.parametrize("page", pages_with(SESSION), ids=shown)
def test_python_sessions_print_what_the_page_shows(page):
    sessions = "\n".join(SESSION.findall(page.read_text(encoding="utf-8")))
    test = doctest.DocTestParser().get_doctest(sessions, {}, shown(page), str(page), 0)

    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test)

    assert runner.failures == 0


@pytest.mark.parametrize("path", EXAMPLES, ids=shown)
def test_an_example_runs(path, tmp_path):
    program = "sh" if path.suffix == ".sh" else "python"

    ran = shell(f"{program} {path}", tmp_path)

    assert (ran.returncode, ran.stderr, bool(ran.stdout)) == (0, "", True)


def command_words() -> Iterator[tuple[str, ...]]:
    """Every command, and behind it those below it, in the order of the help."""
    for name, command in typer.main.get_command(app).commands.items():
        yield (name,)
        yield from ((name, below) for below in getattr(command, "commands", ()))


def cli_reference() -> str:
    """docs/cli.md: the help of the program, of each command, and of those below one."""
    page = [
        "# Command line reference",
        "Written from `--help`. [Concepts](concepts.md) says what the words mean.",
    ]
    for words in ((), *command_words()):
        text = llmplan(*words, "--help").stdout.rstrip("\n")
        page += [f"## {' '.join(('llmplan', *words))}", f"```text\n{text}\n```"]
    return "\n\n".join(page) + "\n"


def test_the_command_line_reference_is_what_help_prints():
    check(DOCS / "cli.md", cli_reference())


def test_every_command_has_help():
    below = [c for group in app.registered_groups for c in group.typer_instance.registered_commands]

    assert all(command.callback.__doc__ for command in (*app.registered_commands, *below))


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    prose = ANY_BLOCK.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """File and anchor of every link of a page that leads into the project."""
    for target in LINK.findall(ANY_BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if not target.startswith(("https://", "http://")):
            path, _, anchor = target.partition("#")
            yield ((page.parent / path).resolve() if path else page), anchor


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_somewhere(page):
    broken = [
        (shown(path), anchor)
        for path, anchor in links(page)
        if not path.exists() or (anchor and anchor not in anchors(path))
    ]

    assert broken == []


def test_every_page_can_be_reached_from_the_readme():
    reached, waiting = {README}, [README]
    while waiting:
        found = {path for path, _ in links(waiting.pop()) if path.suffix == ".md"}
        waiting += found - reached
        reached |= found

    assert set(PAGES) - reached == set()


def test_the_readme_names_the_two_make_commands_first():
    first = CONSOLE.search(README.read_text(encoding="utf-8"))

    assert first
    assert [example.command for example in examples(first[0])] == ["make demo", "make test"]


@pytest.mark.parametrize("page", pages_with(MAKE), ids=shown)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    named = {a or b for a, b in MAKE.findall(page.read_text(encoding="utf-8"))}

    assert named - targets == set()


def test_the_architecture_page_shows_the_import_order_that_is_enforced():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    order = "\n".join(contract["layers"]).replace("llmplan.", "")

    assert f"```text\n{order}\n```" in (DOCS / "architecture.md").read_text(encoding="utf-8")

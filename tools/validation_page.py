"""Write the serving tables of docs/validation.md anew.

``python tools/validation_page.py [FILE]``: predicts every metric of every run of FILE, by default
of ``hardware/measured/serving.csv``, and puts the errors by scenario, GPU, engine and kind of model
between the markers of the page, with a pure roofline beside them. With ``--print`` they are printed
and the page is left alone.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from llmplan.analyze.perf_files import shipped_files
from llmplan.results import schema
from llmplan.results.validation_perf import ValidatePerfQuestion

PAGE = Path(__file__).parent.parent / "docs" / "validation.md"
BEGIN, END = "<!-- serving errors: begin -->\n", "<!-- serving errors: end -->\n"
TITLES = {"scenario": "Scenario", "gpu": "GPU", "engine": "Engine", "kind": "Kind of model"}
HEAD = ("metric", "rows", "predicted", "assumed", "median", "mean", "p90", "in range",
        "roofline median", "roofline mean")  # fmt: skip


def tables(result: schema.ValidationResult) -> str:
    """All tables, one below the other."""
    return "\n".join(_table(result, by) for by in TITLES)


def _table(result: schema.ValidationResult, by: str) -> str:
    groups = [g for g in result.groups if g.by == by and (g.predicted or g.assumed)]
    head = (TITLES[by], *HEAD)
    ruler = ("---", "---", *["---:"] * (len(HEAD) - 1))
    lines = (head, ruler, *(_cells(group) for group in groups))
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _cells(group: schema.ValidationGroup) -> tuple[str, ...]:
    shares = (
        group.median_abs_error_frac,
        group.mape,
        group.p90_abs_error_frac,
        group.coverage_frac,
        group.baseline_median_abs_error_frac,
        group.baseline_mape,
    )
    counts = (group.rows, group.predicted, group.assumed)
    return (
        group.name,
        group.metric,
        *(f"{count:,}" for count in counts),
        *("–" if share is None else f"{share:.1%}" for share in shares),
    )


def parts(page: str) -> tuple[str, str, str]:
    """What stands before the tables, the tables, and what stands after them.

    Raises:
        ValueError: The page has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no lines {BEGIN.strip()} and {END.strip()}")
    return before, inside.strip("\n"), after


def with_tables(page: str, text: str) -> str:
    """The page with other tables.

    Raises:
        ValueError: The page has no markers.
    """
    before, _, after = parts(page)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def predicted(path: Path) -> schema.ValidationResult:
    """Errors of all runs of a table, under a progress bar."""
    question = ValidatePerfQuestion(data=(path,))
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("measured runs", total=None)
        answer = question.ask(lambda done, total: bar.update(task, completed=done, total=total))
    result = answer.result
    if not isinstance(result, schema.ValidationResult):
        raise TypeError("validate gave another result")
    return result


def summary_lines(result: schema.ValidationResult) -> Iterator[str]:
    """Rows that are not answered, by reason."""
    for reason, count in sorted(result.summary.skipped.items(), key=lambda item: -item[1]):
        yield f"skipped {count}: {reason}"


def main(argv: list[str]) -> int:
    """Predict, then print or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=shipped_files().serving[0])
    parser.add_argument("--print", action="store_true", help="instead of writing the page")
    options = parser.parse_args(argv)
    result = predicted(options.file)
    text = tables(result)
    for line in summary_lines(result):
        print(line, file=sys.stderr)
    if options.print:
        print(text, end="")
    else:
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

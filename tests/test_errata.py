"""docs/errata.md: the last column of every row is what the program says."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmplan.documents import shipped_folder
from tests.program import llmplan

PAGE = Path(__file__).parent.parent / "docs" / "errata.md"
ROW = re.compile(
    r"^\| (?P<model>[a-z0-9][\w.-]*) \|.*\| (?P<source>[^|]*) \| (?P<checks>[^|]*) \|$"
)
CHECK = re.compile(r"`(spec|models|params|memory) ([\w.]+) = ([^`]+)`")
CLAIMS = [
    (row["model"], *claim)
    for row in (
        match.groupdict() for match in map(ROW.match, PAGE.read_text().splitlines()) if match
    )
    for claim in CHECK.findall(row["checks"])
]


@cache
def document(model: str, kind: str) -> Any:
    """A spec, or the result of a command with its counts by block and by role."""
    if kind == "spec":
        return yaml.safe_load((shipped_folder("specs") / f"{model}.yaml").read_text())
    result = json.loads(llmplan(kind, model, "--format", "json").stdout)["result"]
    if kind == "params":
        result["components"] = {row["name"]: row["total"] for row in result["components"]}
    if kind == "models":
        (result,) = result["models"]
        result["attention"] = ", ".join(result["attention"])
        result["layers"] = layers_with(result["layers"])
    return result


def layers_with(described: list[str]) -> dict[str, int]:
    """``3 x mla+dense`` and the like: how many layers have each block."""
    counts: dict[str, int] = {}
    for count, names in (text.split(" x ") for text in described):
        for name in names.split("+"):
            counts[name] = counts.get(name, 0) + int(count)
    return counts


def value_at(found: Any, path: str) -> str:
    for part in path.split("."):
        if part not in found:
            return "absent"
        found = found[part]
    return str(found).lower() if isinstance(found, bool) else str(found)


@pytest.mark.parametrize(("model", "kind", "path", "stated"), CLAIMS, ids=str)
def test_a_truth_is_what_the_program_says(model, kind, path, stated):
    assert value_at(document(model, kind), path) == stated


def test_every_row_has_a_source_and_is_checked_whole():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    facts = [row for row in rows if not row.startswith(("| model |", "| --- |"))]

    assert len(facts) > 50
    for row in facts:
        match = ROW.match(row)
        assert match, row
        assert f"(../specs/{match['model']}.yaml)" in match["source"], row
        assert CHECK.findall(match["checks"]), row
        assert CHECK.sub("", match["checks"]).strip() == "", row


def test_a_source_is_the_repository_of_its_spec():
    for line in PAGE.read_text().splitlines():
        if (match := ROW.match(line)) and match["model"] != "model":
            hub_id = match["source"].partition(",")[0]
            assert hub_id in document(match["model"], "spec")["hf_ids"], line

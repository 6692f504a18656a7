"""Rows kept between runs: used only where nothing has changed, and never needed."""

import os
from pathlib import Path

import pytest

from llmplan.model.catalogue import load_model
from llmplan.results import kept_rows as module
from llmplan.results.kept_rows import FILE, kept_rows
from llmplan.results.listing import model_row

SMALL = Path(__file__).parent / "golden" / "files" / "small.yaml"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setattr(module.platformdirs, "user_cache_path", lambda _name: folder)
    return folder


@pytest.fixture
def spec(tmp_path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.read_text())
    return path


class Maker:
    """Makes the row of a spec, and counts how often."""

    def __init__(self, spec: Path) -> None:
        self.spec, self.times = spec, 0

    def __call__(self):
        self.times += 1
        return [model_row(load_model(self.spec))]


def test_rows_are_made_once_and_read_back_equal(cache, spec):
    make = Maker(spec)

    first, second = kept_rows((spec,), make), kept_rows((spec,), make)

    assert first == second
    assert make.times == 1
    assert [path.name for path in cache.iterdir()] == [FILE]


@pytest.mark.usefixtures("cache")
def test_a_changed_spec_is_read_anew_even_with_its_old_date(spec):
    make = Maker(spec)
    (before,) = kept_rows((spec,), make)
    state = spec.stat()

    spec.write_text(spec.read_text().replace("vocab_size: 32000", "vocab_size: 64000"))
    os.utime(spec, ns=(state.st_atime_ns, state.st_mtime_ns))
    (after,) = kept_rows((spec,), make)

    assert after.parameters_total - before.parameters_total == 32_000 * 512
    assert make.times == 2


@pytest.mark.usefixtures("cache")
def test_another_version_makes_its_own_rows(spec, monkeypatch):
    make = Maker(spec)
    kept_rows((spec,), make)

    monkeypatch.setattr(module.llmplan, "__version__", "9.9.9")
    kept_rows((spec,), make)

    assert make.times == 2


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\xff\xfe\n{}", None])
def test_a_damaged_file_is_replaced(cache, spec, damage):
    make = Maker(spec)
    rows = kept_rows((spec,), make)
    file = cache / FILE

    file.write_bytes(file.read_bytes()[:-40] if damage is None else damage)

    assert kept_rows((spec,), make) == rows
    assert make.times == 2
    assert kept_rows((spec,), make) == rows
    assert make.times == 2


def test_a_folder_that_cannot_be_made_is_no_error(cache, spec):
    cache.write_text("a file stands where the folder would")

    assert [row.name for row in kept_rows((spec,), Maker(spec))] == ["small"]


def test_no_draft_is_left_where_the_file_cannot_be_replaced(cache, spec):
    (cache / FILE).mkdir(parents=True)

    assert [row.name for row in kept_rows((spec,), Maker(spec))] == ["small"]
    assert [path.name for path in cache.iterdir()] == [FILE]

"""Inputs that fuzzing once found, replayed; and, by ``-m fuzz``, the fuzzer itself for a moment."""

import gc
import subprocess
import sys
import tracemalloc
from importlib.util import find_spec

import pytest

from fuzz.common import FOUND, ROOT
from fuzz.replay import replayed
from fuzz.targets import NAMES, target_named

SECONDS = 5


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_once_failed_are_read_or_refused(name):
    """Within a second of work and 200 MB, in a fresh process."""
    found = replayed(name, sorted((FOUND / name).glob("*")))

    assert {path.name: m.fault() for path, m in found.items() if m.fault()} == {}


WIDE = {
    "numbers": "a: [" + "1," * 400_000 + "]",
    "as many names as are read": "notes: [" + "a," * 49_000 + "]",
    "empty lists": "a: [" + "[]," * 300_000 + "]",
    "deep lists": "a: [" + ("[" * 17 + "]" * 17 + ",") * 20_000 + "]",
    "blocks": "a:\n" + "- - - - - - - - - - - a\n" * 40_000,
    "layers": "layers:\n" + "- {count: 1, blocks: [a]}\n" * 35_000,
}


def test_wide_documents_are_refused_within_the_limits(tmp_path):
    """Larger than what a fuzzer tries: values cost far more than the text that they stand in."""
    for name, text in WIDE.items():
        (tmp_path / name).write_text(text)

    found = replayed("spec_yaml", tmp_path.iterdir())

    assert {path.name: m for path, m in found.items() if m.fault()} == {}
    assert {m.outcome[:7] for m in found.values()} == {"refused"}


def test_an_unknown_key_below_the_name_of_a_kind_is_named_with_its_neighbours(tmp_path):
    """The document's key ``pipeline`` is also its kind; it is not to be taken for a tag."""
    raw = (FOUND / "spec_yaml" / "unknown_key_below_the_name_of_a_kind.yaml").read_bytes()

    outcome = target_named("spec_yaml").outcome(tmp_path, raw)

    assert "key pipeline.text_encoder_2.blocks.attention.rmsnorm: unknown key" in outcome
    assert "num_key_value_heads" in outcome


def test_reading_a_spec_again_keeps_nothing_of_it(tmp_path):
    """A program that reads many documents must not grow by each."""
    target = target_named("spec_yaml")
    seed = next(iter(target.seeds()))
    target.outcome(tmp_path, seed)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            target.outcome(tmp_path, seed)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert grown < 5 * len(seed)


def test_every_found_input_belongs_to_a_target():
    assert {path.name for path in FOUND.iterdir()} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_target_accepts_its_seeds(name, tmp_path):
    """A target whose seeds are refused would only search the first lines of its reader."""
    target = target_named(name)
    target.prepare(tmp_path)

    outcomes = [target.outcome(tmp_path, seed) for seed in target.seeds()]

    assert outcomes.count("accepted") > 0
    assert sum(map(len, target.seeds())) < 2_000_000


@pytest.mark.fuzz
@pytest.mark.skipif(not find_spec("atheris"), reason="needs the fuzz extra")
@pytest.mark.parametrize("name", NAMES)
def test_some_seconds_of_fuzzing_find_nothing(name):
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", name, str(SECONDS)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stderr[-3000:]

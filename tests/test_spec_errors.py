"""A spec that contradicts itself, or is no spec, is refused with file, line, key and reason."""

import os
import time
import tracemalloc
from pathlib import Path

import pytest

from llmplan.documents import shipped_folder
from llmplan.errors import DocumentError
from llmplan.model.reading import load_spec

HYBRID = (shipped_folder("specs") / "qwen3-next-80b-a3b.yaml").read_text()
VISION = (shipped_folder("specs") / "gemma-3-4b.yaml").read_text()
LAYERS = """\
layers:
  - count: 12
    pattern:
      - count: 3
        blocks: [linear, moe]
      - blocks: [full, moe]
"""


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


def refusal(folder: Path, content: str | bytes) -> DocumentError:
    """What is said of a file with this content."""
    path = folder / "changed.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DocumentError) as caught:
        load_spec(path)
    assert str(caught.value).startswith(str(path))
    return caught.value


def test_the_unchanged_specs_are_accepted(tmp_path):
    for text in (HYBRID, VISION):
        path = tmp_path / "copy.yaml"
        path.write_text(text)

        assert load_spec(path).decoder.layers


# what stands in the shipped spec, what is written instead, the key named, and words of the reason
CONTRADICTIONS = [
    (
        "num_key_value_heads: 2",
        "num_key_value_heads: 3",
        "blocks.full.num_attention_heads",
        "16 does not divide by num_key_value_heads 3",
    ),
    (
        "linear_num_value_heads: 32",
        "linear_num_value_heads: 24",
        "blocks.linear.linear_num_value_heads",
        "24 does not divide by linear_num_key_heads 16",
    ),
    ("rotary_dim: 64", "rotary_dim: 512", "blocks.full.rotary_dim", "more than head_dim 256"),
    (
        "rotary_dim: 64",
        "o_proj_format: bf61",
        "blocks.full.o_proj_format",
        "unknown number format 'bf61'. Did you mean bf16",
    ),
    (
        "num_experts_per_tok: 10",
        "num_experts_per_tok: 513",
        "blocks.moe.num_experts_per_tok",
        "513 is more than num_experts 512",
    ),
    (
        "    shared_expert_intermediate_size: 512\n",
        "",
        "blocks.moe.shared_expert_gate",
        "no shared expert",
    ),
    ("count: 12", "count: 11", "layers", "44 layers, but num_hidden_layers is 48"),
    ("num_hidden_layers: 48", "num_hidden_layers: 47", "layers", "num_hidden_layers is 47"),
    (
        "blocks: [linear, moe]",
        "blocks: [liner, moe]",
        "layers.0.pattern.0.blocks.0",
        "unknown block 'liner'. Did you mean linear?",
    ),
    (
        "mtp:\n  num_nextn_predict_layers: 1\n  blocks: [full, moe]",
        "mtp:\n  num_nextn_predict_layers: 1\n  blocks: [full, mo]",
        "mtp.blocks.1",
        "unknown block 'mo'. Did you mean moe?",
    ),
    (
        "  moe:\n",
        "  spare:\n    kind: mlp\n    intermediate_size: 8\n  moe:\n",
        "blocks.spare",
        "used by no layer",
    ),
    ("kind: gated_delta_net", "kind: gated_delta", "blocks.linear.kind", "mean gated_delta_net?"),
    ("kind: moe", "kind: perceiver", "blocks.moe.kind", "unknown value 'perceiver'. Accepted:"),
    ("    kind: moe\n", "", "blocks.moe.kind", "is missing"),
    ("qk_norm: head", "qk_norm: heads", "blocks.full.qk_norm", "Did you mean head?"),
    ("rotary_dim: 64", "rotary_dims: 64", "blocks.full.rotary_dims", "Did you mean rotary_dim?"),
    ("vocab_size:", "vocab_siz:", "vocab_siz", "unknown key 'vocab_siz'. Did you mean vocab_size?"),
    ("    num_experts: 512\n", "", "blocks.moe.num_experts", "is missing. It states:"),
    (
        "hidden_size: 2048",
        "hidden_size: 2048\nhidden_size: 4096",
        "hidden_size",
        "is given twice (first in line 15)",
    ),
    ("head_dim: 256", "head_dim: 256\n    head_dim: 128", "head_dim", "is given twice"),
    (
        "blocks:\n  linear:",
        "precision:\n  experts: fp88\n\nblocks:\n  linear:",
        "precision.experts",
        "unknown number format 'fp88'. Did you mean fp8",
    ),
    (
        "blocks:\n  linear:",
        "precision:\n  expert: fp8\n\nblocks:\n  linear:",
        "precision.expert",
        "Did you mean experts?",
    ),
    (
        "- blocks: [full, moe]",
        "- count: 1",
        "layers.0.pattern.1",
        "needs either blocks (one layer) or pattern",
    ),
    (
        "release_date: 2025-09",
        "release_date: 2025-13",
        "release_date",
        "a day, a month or a quoted year",
    ),
    ("Apache-2.0", '"\\e[31mred"', "license", "one line without control characters"),
]


@pytest.mark.parametrize(("old", "new", "key", "reason"), CONTRADICTIONS)
def test_a_contradiction_is_named_with_its_key(tmp_path, old, new, key, reason):
    error = refusal(tmp_path, changed(HYBRID, old, new))

    assert error.key == key
    assert reason in str(error)
    assert error.line > 0


def test_the_line_is_that_of_the_key(tmp_path):
    text = changed(HYBRID, "rotary_dim: 64", "rotary_dim: 512")

    error = refusal(tmp_path, text)

    assert text.splitlines()[error.line - 1].strip() == "rotary_dim: 512"


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        ("image_size: 896", "image_size: 897", "vision.image_size", "no multiple of patch_size 14"),
        (
            "num_attention_heads: 16",
            "num_attention_heads: 17",
            "vision.blocks.attention.num_attention_heads",
            "17 does not divide",
        ),
        ("    - count: 27", "    - count: 26", "vision.layers", "26 layers"),
        ("    out_features: 2560", "    out_features: 2561", "projector", "hidden_size is 2560"),
        ("kind: norm\n", "kind: norms\n", "projector.0.kind", "Did you mean norm?"),
    ],
)
def test_a_contradiction_of_the_vision_tower_is_named(tmp_path, old, new, key, reason):
    error = refusal(tmp_path, changed(VISION, old, new))

    assert error.key == key
    assert reason in str(error)


def test_matrices_of_a_projector_fit_each_other(tmp_path):
    text = (shipped_folder("specs") / "llama-4-scout.yaml").read_text()

    error = refusal(tmp_path, changed(text, "in_features: 4096", "in_features: 1024"))

    assert error.key == "projector.1"
    assert "takes 1024 features, but gets 4096" in str(error)


# fmt: off
NO_SIZES = (
    "-1", "0", "true", "yes", "'2048'", "2048.0", "2e3", ".nan", "NaN", ".inf", "-.inf", "null", "",
    "[2048]", "{a: 1}", "99999999999", "9" * 5000, "010", "0x800", "1:30",
    "!!binary aGk=", "!!python/name:os.system x",
)
# fmt: on


@pytest.mark.parametrize("value", NO_SIZES)
def test_a_size_is_a_plain_positive_number(tmp_path, value):
    error = refusal(tmp_path, changed(HYBRID, "hidden_size: 2048", f"hidden_size: {value}"))

    assert (error.line, error.key) == (15, "hidden_size")


@pytest.mark.parametrize("count", ["0", "-5", "true", "1.5", "10001", "10000000000"])
def test_a_count_of_layers_is_a_small_positive_number(tmp_path, count):
    error = refusal(tmp_path, changed(HYBRID, "count: 12", f"count: {count}"))

    assert error.key == "layers.0.count"


@pytest.mark.parametrize("flag", ["1", "'true'", "2.0", "maybe"])
def test_a_flag_is_true_or_false(tmp_path, flag):
    text = changed(HYBRID, "tie_word_embeddings: false", f"tie_word_embeddings: {flag}")

    assert refusal(tmp_path, text).key == "tie_word_embeddings"


@pytest.mark.parametrize("layers", ["layers: []", "layers:\n  - count: 48\n    pattern: []"])
def test_a_pattern_without_layers_is_refused(tmp_path, layers):
    error = refusal(tmp_path, changed(HYBRID, LAYERS, f"{layers}\n"))

    assert "needs at least 1 entry" in str(error)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "must hold a mapping"),
        ("# nothing but a comment\n", "must hold a mapping"),
        ("- name\n- family\n", "must hold a mapping"),
        ("a few words", "must hold a mapping"),
        ("a: 1\n---\nb: 2\n", "another document"),
        ("a: [1, 2\n", "no valid YAML"),
        ("a:\n\tb: 1\n", "no valid YAML"),
        ("? [a, b]\n: 3\n", "a key must be a plain word"),
        ("a: \0", "characters that YAML does not allow"),
        (b"\xff\xfen\x00a\x00", "not UTF-8"),
        ("name: café".encode("latin-1"), "not UTF-8"),
    ],
)
def test_a_file_that_is_no_spec_is_refused(tmp_path, content, reason):
    assert reason in str(refusal(tmp_path, content))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(DocumentError, match="cannot be read"):
            load_spec(path)


def aliases_nine_deep() -> str:
    """Ten lines that stand for 9⁹ entries."""
    rows = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for inner, outer in zip("abcdefgh", "bcdefghi", strict=True):
        rows.append(f"{outer}: &{outer} [{', '.join([f'*{inner}'] * 9)}]")
    return "\n".join(rows)


def nested_patterns(levels: int) -> str:
    """Runs of ten thousand inside each other."""
    rows, indent = ["layers:"], "  "
    for _ in range(levels):
        rows += [f"{indent}- count: 10000", f"{indent}  pattern:"]
        indent += "    "
    return "\n".join([*rows, f"{indent}- blocks: [linear, moe]\n"])


HOSTILE = {
    "aliases": (aliases_nine_deep(), "anchors and aliases"),
    "anchor": (changed(HYBRID, "hidden_size: ", "hidden_size: &D "), "anchors and aliases"),
    "brackets": ("a: " + "[" * 100_000, "nested deeper than"),
    "maps": ("".join(f"{' ' * depth}a:\n" for depth in range(500)), "nested deeper than"),
    "billions of layers": (
        changed(HYBRID, LAYERS, nested_patterns(5)),
        "100000000000000000000 layers",
    ),
    "many runs": (
        changed(HYBRID, LAYERS, "layers:\n" + "  - {count: 10000, blocks: [moe]}\n" * 1000),
        "10000000 layers",
    ),
    "many faults": (
        changed(HYBRID, LAYERS, "layers:\n" + "  - {cuont: 1, blocks: [moe]}\n" * 4000),
        "Did you mean count?",
    ),
    "long layer": (
        changed(HYBRID, LAYERS, f"layers:\n  - {{count: 48, blocks: [{'moe, ' * 9000}]}}\n"),
        "has more than 16 entries",
    ),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_file_is_refused_in_bounded_time_and_memory(tmp_path, attack):
    content, reason = HOSTILE[attack]
    tracemalloc.start()
    start = time.perf_counter()

    error = refusal(tmp_path, content)

    seconds, peak_bytes = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason in str(error)
    assert len(str(error)) < 1000
    assert seconds < 10
    assert peak_bytes < 100e6


def test_a_file_of_100_megabytes_is_not_read(tmp_path):
    path = tmp_path / "large.yaml"
    path.touch()
    os.truncate(path, 100_000_000)
    tracemalloc.start()
    start = time.perf_counter()

    with pytest.raises(DocumentError, match="larger than 1,000,000 bytes"):
        load_spec(path)

    seconds, peak_bytes = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 1
    assert peak_bytes < 10e6

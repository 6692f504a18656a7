"""Models side by side, and how their state and work grow with the context."""

import json
from itertools import pairwise

import pytest

from llmplan.errors import InputError, UnknownNameError
from llmplan.results.compare import CONTEXTS, CompareQuestion
from tests.program import llmplan

PAIR = ("gemma-3-27b", "qwen3-next-80b-a3b")


def growth(model: str, *others: str) -> dict[int, tuple[int, float]]:
    """State and decode FLOPs of the first model by context."""
    row = CompareQuestion(models=(model, *others)).ask().result.growth[0]
    values = zip(row.state_bytes, row.decode_flops_per_token, strict=True)
    return dict(zip(row.context_tokens, values, strict=True))


@pytest.mark.parametrize("model", [*PAIR, "deepseek-v3.2", "mamba-2.8b"])
@pytest.mark.parametrize("context", [1024, 8192, 131_072])
def test_a_point_is_what_the_other_commands_say(model, context):
    options = ("--context", str(context), "--format", "json")
    memory = json.loads(llmplan("memory", model, *options).stdout)["result"]
    flops = json.loads(llmplan("flops", model, *options).stdout)["result"]

    state, decode = growth(model, "llama-3.1-8b")[context]

    assert state == memory["kv_cache"]["total_bytes"]
    assert decode == pytest.approx(flops["flops_per_token"]["decode"], rel=1e-12)


def test_windows_stop_growing_and_state_does_not_shrink():
    grown = growth("gemma-3-27b", "llama-3.1-8b")

    # 10 full layers at 8192 bytes a token; 52 windows of 1024 hold 416 MiB
    assert grown[1024][0] == 1024 * (81_920 + 52 * 8192)
    assert grown[2048][0] - grown[1024][0] == 1024 * 81_920
    states = [state for state, _ in grown.values()]
    assert states == sorted(states)


def test_a_model_without_growing_state_is_flat():
    assert len({state for state, _ in growth("mamba-2.8b", "llama-3.1-8b").values()}) == 1


def test_contexts_go_from_1k_to_1m_in_doublings():
    assert CONTEXTS[0] == 1024
    assert CONTEXTS[-1] == 2**20
    assert all(after == 2 * before for before, after in pairwise(CONTEXTS))


def test_models_stand_in_the_order_asked_for():
    for order in (PAIR, PAIR[::-1]):
        result = CompareQuestion(models=order).ask().result

        assert tuple(row.name for row in result.models) == order
        assert tuple(row.model for row in result.growth) == order


def test_beyond_the_published_context_stands_in_brackets():
    table = llmplan("models", "gpt-oss-120b", "llama-4-scout").stdout

    beyond = next(line for line in table.splitlines() if line.lstrip().startswith("512k"))
    within = next(line for line in table.splitlines() if line.lstrip().startswith("128k"))
    assert beyond.count("(") == 1
    assert within.count("(") == 0


@pytest.mark.parametrize("count", [0, 1, 9])
def test_two_to_eight_models_are_compared(count):
    with pytest.raises(InputError, match="two to 8 models"):
        CompareQuestion(models=("llama-3.1-8b",) * count).ask()


def test_one_model_with_the_option_is_a_mistake():
    outcome = llmplan("models", "llama-3.1-8b", "--compare")

    assert outcome.exit_code == 2
    assert outcome.stderr == "error: --compare takes two to 8 models.\n"


def test_an_unknown_model_is_named():
    with pytest.raises(UnknownNameError, match="kimi-k9"):
        CompareQuestion(models=("llama-3.1-8b", "kimi-k9")).ask()


def test_what_was_assumed_of_a_name_is_said():
    answer = CompareQuestion(models=("llama-3.1-8b", "acme/Qwen3-8B-AWQ")).ask()

    assert any("is read as qwen3-8b" in warning for warning in answer.warnings)


@pytest.mark.parametrize("output", ["table", "md", "csv", "html", "json"])
def test_every_format_names_both(output):
    outcome = llmplan("models", *PAIR, "--format", output)

    assert outcome.exit_code == 0, outcome.stderr
    assert all(name in outcome.stdout for name in PAIR)

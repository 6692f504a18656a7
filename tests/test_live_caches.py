"""What a request keeps, by llmplan, equals the bytes of the tensors in transformers' caches.

Small bf16 models read a prompt with ``use_cache``; then every cached tensor is measured. What
transformers keeps otherwise is a constant of this file with its reason, and is compared exactly.
"""

from collections import Counter
from typing import Final

import pytest

from llmplan.model.compiled import Model
from llmplan.ops.base import StateKind
from llmplan.ops.conv import ShortConvolution
from tests.small_models import SMALL, built, compiled, needs_transformers, ran

pytestmark = [pytest.mark.oracle, needs_transformers]

BF16_BYTES: Final = 2

FP32_OF_BF16: Final = 2
"""Recurrent states are kept in fp32 there, whatever the model's format; llmplan's default is 2
bytes an element."""

UNUSED_COLUMNS: Final = 1
"""Convolution states hold kernel columns there, of which the next token needs kernel - 1."""

OWN_KEY: Final = 1
"""A window of W is W - 1 kept keys there, because the query brings its own; engines reserve W."""

PROMPTS: Final = [1, 5, 20]
"""Tokens: one, below the windows and kernels of the small models, and above."""

KIND_OF: Final = {
    "keys": StateKind.KV,
    "values": StateKind.KV,
    "indexer_keys": StateKind.INDEXER,
    "conv_states": StateKind.CONVOLUTION,
    "recurrent_states": StateKind.RECURRENT,
}
"""What the attributes of a cache layer hold."""

GROWING: Final = [
    "llama",
    "olmo2",
    "mixtral",
    "qwen3-moe",
    "glm4-moe",
    "deepseek-v3",
    "deepseek-v3.2",
]
WINDOWED: Final = ["gemma3", "gpt-oss", "recurrent-gemma"]
RECURRENT: Final = [
    "qwen3-next",
    "kimi-linear",
    "mamba",
    "mamba2",
    "jamba",
    "bamba",
    "recurrent-gemma",
]
CONVOLVED: Final = ["qwen3-next", "kimi-linear", "mamba", "mamba2", "jamba", "bamba"]


def held(name: str, batch: int, *passes: int) -> Counter[StateKind]:
    """Bytes of the tensors cached after forward passes of so many tokens each."""
    import torch

    network = built(SMALL[name]).to(torch.bfloat16)
    cache = None
    for tokens in passes:
        cache = ran(network, batch, tokens, cache)
    sizes: Counter[StateKind] = Counter()
    for layer in cache.layers:
        for attribute, kind in KIND_OF.items():
            found = getattr(layer, attribute, None)
            is_window = kind is StateKind.KV and getattr(layer, "is_sliding", False)
            for tensor in found.values() if isinstance(found, dict) else [found]:
                if tensor is not None:
                    sizes[StateKind.WINDOW if is_window else kind] += tensor.nbytes
    for tensor in getattr(cache, "linear_cache", []):
        # MiniMax's cache has a list of its own, empty where a layer is softmax attention
        sizes[StateKind.RECURRENT] += getattr(tensor, "nbytes", 0)
    for module in network.modules():
        # RecurrentGemma keeps its states in the modules
        for attribute, kind in (
            ("recurrent_states", StateKind.RECURRENT),
            ("conv1d_state", StateKind.CONVOLUTION),
        ):
            if hasattr(module, attribute):
                sizes[kind] += getattr(module, attribute).nbytes
    return sizes


def stated(model: Model, batch: int, context: int) -> Counter[StateKind]:
    """Bytes by llmplan."""
    sizes: Counter[StateKind] = Counter()
    for operator, repeats in model.decoder.counted:
        for state in operator.states:
            sizes[state.kind] += batch * repeats * state.bytes_at(context)
    return sizes


def window_entry_bytes(model: Model) -> int:
    """Bytes of one token in every window layer together."""
    return sum(
        state.width_bytes * repeats
        for operator, repeats in model.decoder.counted
        for state in operator.states
        if state.kind is StateKind.WINDOW
    )


def column_bytes(model: Model) -> int:
    """Bytes of one input column of every short convolution together."""
    return sum(
        operator.channels * repeats * BF16_BYTES
        for operator, repeats in model.decoder.counted
        if isinstance(operator, ShortConvolution)
    )


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("name", GROWING)
def test_growing_keys_and_values_and_indexer_keys(name, prompt):
    found = held(name, 3, prompt)

    assert found == stated(compiled(SMALL[name]), 3, prompt)


@pytest.mark.parametrize("name", ["llama", "deepseek-v3", "qwen3-next", "jamba", "minimax"])
def test_decoding_adds_one_token_and_nothing_else(name):
    before, after = held(name, 3, 20), held(name, 3, 20, 1)

    growth = compiled(SMALL[name])
    entry = stated(growth, 3, 21)[StateKind.KV] - stated(growth, 3, 20)[StateKind.KV]
    assert after - before == Counter({StateKind.KV: entry})


@pytest.mark.parametrize("prompt", [1, 5, 7])
@pytest.mark.parametrize("name", WINDOWED)
def test_windows_that_are_not_full(name, prompt):
    model = compiled(SMALL[name])

    found = held(name, 3, prompt)

    assert found[StateKind.WINDOW] == stated(model, 3, prompt)[StateKind.WINDOW]
    assert found[StateKind.KV] == stated(model, 3, prompt)[StateKind.KV]


@pytest.mark.parametrize("passes", [(8,), (20,), (20, 1)])
@pytest.mark.parametrize("name", WINDOWED)
def test_full_windows(name, passes):
    model = compiled(SMALL[name])

    found = held(name, 3, *passes)

    own = 3 * OWN_KEY * window_entry_bytes(model)
    context = sum(passes)
    assert found[StateKind.WINDOW] == stated(model, 3, context)[StateKind.WINDOW] - own
    assert found[StateKind.KV] == stated(model, 3, context)[StateKind.KV]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_states_in_fp32(name, prompt):
    model = compiled(SMALL[name])

    found = held(name, 3, prompt)

    expected = stated(model, 3, prompt)
    assert found[StateKind.RECURRENT] == FP32_OF_BF16 * expected[StateKind.RECURRENT]
    assert found[StateKind.KV] == expected[StateKind.KV]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_lightning_states_in_bf16(prompt):
    found = held("minimax", 3, prompt)

    assert found == stated(compiled(SMALL["minimax"]), 3, prompt)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("name", CONVOLVED)
def test_convolution_states(name, prompt):
    model = compiled(SMALL[name])

    found = held(name, 3, prompt)

    unused = 3 * UNUSED_COLUMNS * column_bytes(model)
    expected = stated(model, 3, prompt)[StateKind.CONVOLUTION]
    assert found[StateKind.CONVOLUTION] == expected + unused


@pytest.mark.parametrize("passes", [(5,), (20,), (20, 1)])
def test_convolution_states_without_an_unused_column(passes):
    found = held("recurrent-gemma", 3, *passes)

    expected = stated(compiled(SMALL["recurrent-gemma"]), 3, sum(passes))
    assert found[StateKind.CONVOLUTION] == expected[StateKind.CONVOLUTION]


def test_every_small_model_is_compared():
    own_tests = {"minimax", "deepseek-v4"}
    assert {*GROWING, *WINDOWED, *RECURRENT, *CONVOLVED, *own_tests} == set(SMALL)


@pytest.mark.parametrize("passes", [(5,), (8,), (25,), (23, 1)])
def test_windows_and_compressed_entries(passes):
    import torch

    network, cache = built(SMALL["deepseek-v4"]).to(torch.bfloat16), None
    for tokens in passes:
        cache = ran(network, 3, tokens, cache)
    model, context = compiled(SMALL["deepseek-v4"]), sum(passes)
    expected = stated(model, 3, context)

    # keys and values are one tensor there, too; a window holds one key less once it is full
    windows = sum(layer.keys.nbytes for layer in cache.layers)
    own = 3 * OWN_KEY * window_entry_bytes(model) * (context >= 8)
    assert windows == expected[StateKind.WINDOW] - own
    for name, kind in (("compressor", StateKind.KV), ("indexer", StateKind.INDEXER)):
        entries = [getattr(layer, "compressed_kv", {}).get(name) for layer in cache.layers]
        assert sum(e.nbytes for e in entries if e is not None) == expected[kind]

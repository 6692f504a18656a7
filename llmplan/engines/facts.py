"""What an engine needs to know of a rank and its GPU: plain numbers, no operators and no catalogue.

Engines import neither models nor hardware; ``llmplan.analyze.serving`` fills these in.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LayerCache:
    """What one layer keeps of one request on one rank.

    Attributes:
        entries: (tokens an entry, bytes an entry) of what grows without limit, indexer keys too.
        window: Tokens that are kept at most; 0 where nothing is dropped.
        window_token_bytes: Bytes a token of what is windowed.
        fixed_bytes: Recurrent and convolution state.
        compressors: (tokens an entry, elements projected a token) of what forms entries.
    """

    entries: tuple[tuple[int, int], ...] = ()
    window: int = 0
    window_token_bytes: int = 0
    fixed_bytes: int = 0
    compressors: tuple[tuple[int, int], ...] = ()

    @property
    def token_bytes(self) -> int:
        """Bytes of the entries that stand for one token each."""
        return sum(size for tokens, size in self.entries if tokens == 1)

    @property
    def is_compressed_beside_windows(self) -> bool:
        """Whether entries that stand for several tokens are kept beside a window (DeepSeek-V4)."""
        return bool(self.compressors and self.window)

    def bytes_at(self, context: int) -> int:
        """Bytes of one request that holds ``context`` tokens; exact."""
        grown = sum(context // tokens * size for tokens, size in self.entries)
        return grown + min(context, self.window) * self.window_token_bytes + self.fixed_bytes


@dataclass(frozen=True, slots=True)
class RankFacts:
    """One rank, after sharding.

    Attributes:
        weights_bytes: Stored weights.
        dense_token_bytes: Largest live bytes a token in a layer's dense part.
        expert_token_bytes: Bytes a token of the workspace of routed experts; 0 without them.
        hidden_token_bytes: Bytes of one hidden vector.
        vocab_size: Rows of the whole head; 0 where the rank has no sampler.
        logit_bytes: Bytes of one logit as the model computes it.
        input_table_bytes: Stored input table; 0 where the rank has none.
        largest_tensor_bytes: Largest stored matrix, where weights are offloaded: whole ones are.
        num_layers: Layers on the rank.
        caches: What each layer keeps, with how many layers keep that.
        has_vision: A vision tower is on the rank.
        tp: Ranks that split a layer.
        pp: Stages.
        cache_ways: Ranks over which the tokens of a cache are shared out.
        ranks: Ranks that talk to each other in one step.
        beside_bytes: Held beside the model: adapters, a draft model, logits of prompts.
    """

    weights_bytes: int
    dense_token_bytes: int
    expert_token_bytes: int
    hidden_token_bytes: int
    vocab_size: int
    logit_bytes: int
    input_table_bytes: int
    largest_tensor_bytes: int
    num_layers: int
    caches: tuple[tuple[LayerCache, int], ...]
    has_vision: bool = False
    tp: int = 1
    pp: int = 1
    cache_ways: int = 1
    ranks: int = 1
    beside_bytes: int = 0

    def offloaded_bytes(self, limit_bytes: int) -> int:
        """Weights kept in host memory where whole tensors are taken until a limit is reached.

        The last one goes beyond the limit by half of the largest on average. Source: vLLM's and
        SGLang's maybe_offload_to_cpu.
        """
        if not limit_bytes:
            return 0
        return min(limit_bytes + self.largest_tensor_bytes // 2, self.weights_bytes)


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One GPU.

    Attributes:
        capacity_bytes: What the driver gives a process.
        name: Catalogue name.
        vendor: Who makes it.
        compute_capability: NVIDIA's (major, minor); None for others.
        is_unified: CPU and GPU share its memory.
        is_switched: GPUs of a node reach each other at full rate, over a switch or a mesh.
    """

    capacity_bytes: int
    name: str
    vendor: str
    compute_capability: tuple[int, int] | None
    is_unified: bool = False
    is_switched: bool = False

"""How a model is split over GPUs, and which splits are legal whatever the engine.

World size is tp x pp x dp x prefill_cp. Expert parallelism and decode context parallelism reuse
those ranks: whole experts are spread over all ranks of a stage, and the tokens of a cache over
ranks that would hold copies of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from llmplan.errors import LayoutError
from llmplan.model.compiled import Model
from llmplan.ops.attention import Attention
from llmplan.ops.base import Operator, StateKind
from llmplan.ops.compressed import CompressedAttention
from llmplan.ops.latent import LatentAttention
from llmplan.ops.moe import Experts


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One copy of a model over its GPUs.

    Attributes:
        tp: Ranks that split attention and dense layers.
        pp: Pipeline stages.
        dp: Data-parallel groups that share one set of experts (attention-dp); 1 otherwise.
        ep: Whole experts are spread over all tp x dp x prefill_cp ranks of a stage.
        decode_cp: Ranks of a tp group that share out the tokens of each cache.
        prefill_cp: Ranks beside the tp group that share out the tokens of each prompt and cache.
        redundant_experts: Copies of experts beside the originals.
        stage_layers: Layers of each stage; empty for the even split of ``stages``.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: bool = False
    decode_cp: int = 1
    prefill_cp: int = 1
    redundant_experts: int = 0
    stage_layers: tuple[int, ...] = ()

    @property
    def gpus(self) -> int:
        """GPUs of one copy."""
        return self.tp * self.pp * self.dp * self.prefill_cp

    @property
    def stage_ranks(self) -> int:
        """Ranks of one stage."""
        return self.gpus // self.pp

    @property
    def cache_ways(self) -> int:
        """Ranks over which the tokens of one cache are shared out."""
        return self.decode_cp * self.prefill_cp

    def __str__(self) -> str:
        """The layout in short words: ``tp4 pp2``, ``tp1 dp8 ep``."""
        parts = [f"tp{self.tp}"]
        parts += [f"pp{self.pp}"] if self.pp > 1 else []
        parts += [f"adp{self.dp}"] if self.dp > 1 else []
        parts += ["ep"] if self.ep else []
        parts += [f"dcp{self.decode_cp}"] if self.decode_cp > 1 else []
        parts += [f"pcp{self.prefill_cp}"] if self.prefill_cp > 1 else []
        return " ".join(parts)


def stage_sizes(layers: int, layout: Layout) -> tuple[int, ...]:
    """Layers of each stage.

    Layers that are left over go to the stages before the last, one each from the back, since the
    last stage also holds the output head.

    Raises:
        LayoutError: More stages than layers, or stages given that do not add up.

    Source: vLLM's default partition.
    """
    if layout.stage_layers:
        if len(layout.stage_layers) != layout.pp or sum(layout.stage_layers) != layers:
            given = "+".join(map(str, layout.stage_layers))
            raise LayoutError(
                f"stages of {given} layers are no split of {layers} layers over pp {layout.pp}."
            )
        return layout.stage_layers
    if layout.pp > layers:
        raise LayoutError(f"pipeline parallelism {layout.pp} is more than the {layers} layers.")
    each, left = divmod(layers, layout.pp)
    sizes = [each] * layout.pp
    for back in range(2, left + 2):
        sizes[-back] += 1
    return tuple(sizes)


def check_layout(model: Model, layout: Layout) -> None:
    """Refuse what no engine could run; what does not divide is refused while sharding.

    Raises:
        LayoutError: Naming the rule.
    """
    if min(layout.tp, layout.pp, layout.dp, layout.decode_cp, layout.prefill_cp) < 1:
        raise LayoutError("tensor, pipeline, data and context parallelism are 1 or more.")
    operators = [operator for operator, _ in model.decoder.counted]
    experts = _largest(o.num_experts for o in operators if isinstance(o, Experts))
    if model.diffusion and layout.gpus > 1:
        raise LayoutError(f"{model.identity.name} is a diffusion pipeline: it is counted whole.")
    if layout.ep and not experts:
        raise LayoutError(
            f"{model.identity.name} has no routed experts: expert parallelism splits nothing."
        )
    if layout.ep and layout.stage_ranks > experts + layout.redundant_experts:
        raise LayoutError(
            f"expert parallelism over {layout.stage_ranks} ranks leaves ranks without any of the "
            f"{experts + layout.redundant_experts} experts."
        )
    if layout.dp > 1 and not layout.ep:
        raise LayoutError(
            "data-parallel attention shares one set of experts: it needs expert parallelism. "
            "Without it each group is a copy of its own."
        )
    if layout.redundant_experts and not layout.ep:
        raise LayoutError("redundant experts need expert parallelism.")
    if layout.redundant_experts and (experts + layout.redundant_experts) % layout.stage_ranks:
        raise LayoutError(
            f"{experts} experts with {layout.redundant_experts} redundant ones must divide by the "
            f"{layout.stage_ranks} ranks that hold them."
        )
    _check_context_parallelism(model, layout, operators)


def _check_context_parallelism(model: Model, layout: Layout, operators: Iterable[Operator]) -> None:
    """Tokens of a cache are shared out only where ranks would hold the same one."""
    if layout.cache_ways == 1:
        return
    name = model.identity.name
    for operator in operators:
        kinds = {state.kind for state in operator.states}
        if kinds - {StateKind.KV, StateKind.INDEXER}:
            raise LayoutError(
                f"context parallelism does not share out the state of {name}'s {operator.name}: "
                f"only caches that grow with every token are shared out."
            )
    if layout.decode_cp == 1:
        return
    copies = layout.tp // _least_kv_heads(operators, layout.tp)
    if layout.tp % layout.decode_cp or layout.decode_cp > max(copies, 1):
        raise LayoutError(
            f"decode context parallelism {layout.decode_cp} shares out caches that ranks hold in "
            f"copies: with tp {layout.tp}, {name} has {max(copies, 1)} copies of each, and the "
            "former must divide tp and be no more than the latter."
        )


def _least_kv_heads(operators: Iterable[Operator], tp: int) -> int:
    """KV heads that ranks can tell apart: 1 for latents."""
    heads = [o.num_key_value_heads for o in operators if isinstance(o, Attention)]
    latent = any(isinstance(o, LatentAttention | CompressedAttention) for o in operators)
    return 1 if latent else max(1, min([*heads, tp]))


def _largest(values: Iterable[int]) -> int:
    return max(values, default=0)

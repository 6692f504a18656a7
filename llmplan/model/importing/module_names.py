"""The module names that a checkpoint of a spec would have, by role: what name lists speak about.

Names differ between publishers, so that a part of a layer has several spellings. Prefixes before
``layers.`` are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Final

from llmplan.model.importing.parts import Spec

_NETWORKS: Final = ("mlp", "feed_forward", "block_sparse_moe", "moe", "ffn")
_EXPERT_MATRICES: Final = (("gate_proj", "up_proj", "down_proj"), ("w1", "w2", "w3"))
_SHARED: Final = ("shared_experts", "shared_expert", "shared_mlp", "share_expert")
_GQA: Final = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    ("self_attn.qkv_proj", "self_attn.o_proj"),
    ("norm_attn_norm.attn.Wqkv", "norm_attn_norm.attn.out_proj"),
)
_CROSS: Final = tuple(f"cross_attn.{name}_proj" for name in "qkvo")
_LATENT_TAIL: Final = ("self_attn.kv_a_proj_with_mqa", "self_attn.kv_b_proj", "self_attn.o_proj")
_LINEAR_ATTENTION: Final = (
    ("linear_attn.in_proj_qkvz", "linear_attn.out_proj"),
    ("linear_attn.in_proj_qkv", "linear_attn.in_proj_z", "linear_attn.out_proj"),
    ("mamba.in_proj", "mamba.out_proj"),
    ("mixer.in_proj", "mixer.out_proj"),
    ("self_attn.qkv_proj", "self_attn.out_proj", "self_attn.output_gate"),
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
)
_LATENT_PROJECTIONS: Final = (
    ("mixer.fc1_latent_proj", "mixer.fc2_latent_proj"),
    ("block_sparse_moe.routed_expert_down_proj", "block_sparse_moe.routed_expert_up_proj"),
)
_ALSO: Final = {
    "attention": (
        "self_attn.g_proj", "self_attn.gate_proj", "self_attn.indexer.wq_b",
        "self_attn.indexer.wk", "self_attn.fused_qkv_a_proj_with_mqa", "linear_attn.in_proj_ba",
        "linear_attn.in_proj_a", "linear_attn.in_proj_b", "self_attn.index_q_proj",
        "self_attn.index_k_proj", "self_attn.indexer.q_proj", "self_attn.indexer.k_proj",
    ),
}  # fmt: skip
"""Modules of a role that not every model has; a list need not name them."""
_NEVER_CONVERTED: Final = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
    "post_feedforward_layernorm", "self_attn.q_norm", "self_attn.k_norm",
    "cross_attn.q_norm", "cross_attn.k_norm",
    "self_attn.q_a_layernorm", "self_attn.kv_a_layernorm", "self_attn.rotary_emb",
    "self_attn.index_q_norm", "self_attn.index_k_norm", "self_attn.indexer.q_norm",
    "self_attn.indexer.weights_proj", "self_attn.indexer.k_norm", "linear_attn.conv1d",
    "linear_attn.norm", "mamba.conv1d", "mlp.router", "mlp.router.gate", "mlp.router.classifier",
    "mlp.shared_expert_gate", "e_score_correction_bias", "mlp.gate.e_score_correction_bias",
    *(f"{network}.gate" for network in _NETWORKS),
    *(f"{network}.router" for network in _NETWORKS),
)  # fmt: skip
OUTSIDE: Final = ("embed_tokens", "norm", "lm_head")
"""Modules beside the layers."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The part of a role that one block of a spec holds.

    Attributes:
        role: The role.
        spellings: Complete sets of its module names, one set a way to spell them.
        also: Further names that belong to it.
        in_mtp: Whether it stands in an MTP module.
    """

    role: str
    spellings: tuple[frozenset[str], ...]
    also: frozenset[str] = field(default=frozenset())
    in_mtp: bool = False

    @property
    def names(self) -> frozenset[str]:
        """All names that speak about it."""
        return self.also.union(*self.spellings)


def units(body: Spec) -> list[Unit]:
    """The parts of all roles of a spec's body, MTP modules behind the layers."""
    layers = [list(flat(names)) for names in rows(body["layers"])]
    found = _of_blocks(body, _places(layers, 0))
    mtp = body.get("mtp")
    if not mtp:
        return found
    modules = [list(flat(mtp["blocks"]))] * mtp["num_nextn_predict_layers"]
    behind = _of_blocks(body, _places(modules, len(layers)))
    return found + [replace(unit, in_mtp=True) for unit in behind]


def _of_blocks(body: Spec, places: dict[str, list[int]]) -> list[Unit]:
    return [unit for name, at in places.items() for unit in _of_block(body["blocks"][name], at)]


def never_converted(body: Spec) -> list[str]:
    """Names of norms, routers and what stands beside the layers."""
    modules = (body.get("mtp") or {}).get("num_nextn_predict_layers", 0)
    layers = range(body["num_hidden_layers"] + modules)
    inside = [f"layers.{i}.{name}" for i, name in product(layers, _NEVER_CONVERTED)]
    return [*inside, *OUTSIDE]


def flat(names: Any) -> Iterator[str]:
    """Block names of a layer, those side by side included."""
    for name in names:
        yield from (name,) if isinstance(name, str) else name


def rows(runs: list[Spec]) -> Iterator[Any]:
    """The block names of every layer, in order."""
    for run in runs:
        for _ in range(run.get("count", 1)):
            if "blocks" in run:
                yield run["blocks"]
            yield from rows(run.get("pattern", []))


def _places(layers: list[list[str]], first: int) -> dict[str, list[int]]:
    """The layers in which each block stands."""
    places: dict[str, list[int]] = {}
    for index, names in enumerate(layers, first):
        for name in names:
            places.setdefault(name, []).append(index)
    return places


def _of_block(block: Spec, layers: list[int]) -> list[Unit]:
    match block["kind"]:
        case "moe":
            return _of_experts(block, layers)
        case "mlp":
            return [_unit("ffn", layers, _matrices(_NETWORKS, gated=block.get("gated", True)))]
        case "rwkv6_channel_mix":
            return [_unit("ffn", layers, (("feed_forward.key", "feed_forward.value"),))]
        case "attention" | "cross_attention" as kind:
            return [_unit("attention", layers, _GQA if kind == "attention" else (_CROSS,))]
        case "mla":
            queries = ("q_proj",) if block.get("q_lora_rank") is None else ("q_a_proj", "q_b_proj")
            names = (*(f"self_attn.{name}" for name in queries), *_LATENT_TAIL)
            return [_unit("attention", layers, (names,))]
        case _:
            return [_unit("attention", layers, _LINEAR_ATTENTION)]


def _of_experts(block: Spec, layers: list[int]) -> list[Unit]:
    last = block["num_experts"] - 1
    single = [
        tuple(f"{network}.experts.{e}.{name}" for e, name in product(sorted({0, last}), matrices))
        for network, matrices in product(_NETWORKS, _EXPERT_MATRICES)
    ]
    fused = [(f"{network}.experts.gate_up_proj", f"{network}.experts.down_proj")
             for network in _NETWORKS]  # fmt: skip
    found = [_unit("experts", layers, (*single, *fused))]
    if block.get("n_shared_experts") or block.get("shared_expert_intermediate_size"):
        at = [f"{network}.{shared}" for network, shared in product(_NETWORKS, _SHARED)]
        gated = block.get("gated", True)
        found.append(_unit("shared_experts", layers, _matrices((*at, *_SHARED), gated=gated)))
    if block.get("moe_latent_size"):
        found.append(_unit("ffn", layers, _LATENT_PROJECTIONS))
    return found


def _matrices(networks: Any, *, gated: bool) -> tuple[tuple[str, ...], ...]:
    ways: tuple[tuple[str, ...], ...] = (
        ("up_proj", "down_proj"),
        ("fc1", "fc2"),
        ("c_fc", "c_proj"),
    )
    if gated:
        ways = (("gate_proj", "up_proj", "down_proj"), ("gate_up_proj", "down_proj"),
                ("w1", "w2", "w3"))  # fmt: skip
    return tuple(
        tuple(f"{network}.{name}" for name in names) for network, names in product(networks, ways)
    )


def _unit(role: str, layers: list[int], spellings: Any) -> Unit:
    def at_layers(names: tuple[str, ...]) -> frozenset[str]:
        return frozenset(f"layers.{i}.{name}" for i, name in product(layers, names))

    return Unit(role, tuple(map(at_layers, spellings)), at_layers(_ALSO.get(role, ())))

"""Dense decoders that mix full and windowed layers, Gemma among them."""

from collections.abc import Sequence

from llmplan.model.importing.decoders import (
    FULL,
    SLIDING,
    Layers,
    alternating,
    biases,
    every,
    heads,
    layer_types,
    mixed,
    refuse_switches,
    sliding_layers,
    window,
)
from llmplan.model.importing.parts import Spec, activation, frame, mlp
from llmplan.model.importing.view import ConfigView


def ministral(config: ConfigView) -> Spec:
    """Ministral of 2024: every layer slides where there is a window, unless layer_types says."""
    refuse_switches(config, "attention_bias", "mlp_bias")
    base, tokens = frame(config, tied=False, context=131072), window(config, 4096)
    kinds = layer_types(config, [SLIDING if tokens else FULL] * base["num_hidden_layers"])
    block, network = heads(config, kv=8), mlp(config, hidden_act=activation(config))
    return alternating(sliding_layers(config, base, kinds, tokens), block, network)


def qwen2(config: ConfigView) -> Spec:
    """Qwen 1.5 to 2.5: biases on queries, keys and values always."""
    refuse_switches(config, "mlp_bias")
    config.require("attention_bias", True, None)
    return _qwen(config, heads(config, kv=32, attention_bias=True))


def qwen3(config: ConfigView) -> Spec:
    """Qwen 3, dense: a norm on every head."""
    refuse_switches(config, "mlp_bias")
    return _qwen(config, heads(config, kv=32, dim=128, qk_norm="head", **biases(config)))


def _qwen(config: ConfigView, block: Spec) -> Spec:
    """The window counts only where it is switched on, and then from max_window_layers on."""
    base, tokens = frame(config, tied=False, context=32768), window(config, 4096)
    first = config.size("max_window_layers", 28)
    count = base["num_hidden_layers"]
    if not config.flag("use_sliding_window", False):
        tokens, first = None, count
    default = [SLIDING if tokens and index >= first else FULL for index in range(count)]
    kinds = layer_types(config, default)
    network = mlp(config, hidden_act=activation(config))
    return alternating(sliding_layers(config, base, kinds, tokens), block, network)


def smollm3(config: ConfigView) -> Spec:
    """SmolLM3: some layers without positions, which alone slide where a window is on."""
    base = frame(config, tied=True, context=32768)
    count, period = base["num_hidden_layers"], config.count("no_rope_layer_interval", 4)
    rotates = config.counts("no_rope_layers", [int((i + 1) % period != 0) for i in range(count)])
    tokens = window(config) if config.flag("use_sliding_window", False) else None
    config.ignore("sliding_window")  # where it is off
    default = [SLIDING if tokens and not turns else FULL for turns in rotates]
    layers = sliding_layers(config, base, layer_types(config, default), tokens)
    return _partly_still(config, layers, heads(config, kv=4, **biases(config)), rotates)


def _partly_still(
    config: ConfigView, layers: Layers, block: Spec, rotates: Sequence[float]
) -> Spec:
    """Full and sliding layers; those where ``rotates`` has a zero have no positions."""
    if not len(rotates) == len(layers.kinds) == layers.base["num_hidden_layers"]:
        raise config.refusal("num_hidden_layers", "differs from the lists with a word a layer")
    still = {**block, "rotary_dim": 0}
    blocks = {
        FULL: block,
        SLIDING: layers.sliding(block),
        f"still_{FULL}": still,
        f"still_{SLIDING}": layers.sliding(still),
    }
    names = [kind if turns else f"still_{kind}"
             for turns, kind in zip(rotates, layers.kinds, strict=True)]  # fmt: skip
    return mixed(layers.base, names, blocks, _network(config))


def _network(config: ConfigView) -> Spec:
    return mlp(config, hidden_act=activation(config), mlp_bias=config.flag("mlp_bias", False))


def cwm(config: ConfigView) -> Spec:
    """Code World Model: the first of four layers is full."""
    refuse_switches(config, "attention_bias")
    base, tokens = frame(config, tied=False, context=131072), window(config, 8192)
    layers = sliding_layers(config, base, _first_of_four(config, base), tokens)
    return alternating(layers, heads(config, kv=8, dim=128), _network(config))


def _first_of_four(config: ConfigView, base: Spec) -> list[str]:
    count = base["num_hidden_layers"]
    return layer_types(config, [SLIDING if index % 4 else FULL for index in range(count)])


def granite_swa(config: ConfigView) -> Spec:
    """Granite with windows and sinks; a theta of zero is a layer without positions."""
    base, tokens = frame(config, tied=True, context=8192), window(config, 128)
    layers = sliding_layers(config, base, _first_of_four(config, base), tokens)
    block = heads(config, kv=4, attention_sinks=True, **biases(config))
    thetas = config.numbers("layer_rope_theta", [1.0] * base["num_hidden_layers"])
    return _partly_still(config, layers, block, thetas)


def olmo3(config: ConfigView) -> Spec:
    """OLMo 3: OLMo 2 with three windowed layers before each full one."""
    refuse_switches(config, "mlp_bias")
    base, tokens = frame(config, tied=False, context=2048), window(config, 4096)
    kinds = layer_types(config, every(4, base["num_hidden_layers"]))
    return alternating(
        sliding_layers(config, base, kinds, tokens),
        heads(config, qk_norm="full", **biases(config)),
        mlp(config, hidden_act=activation(config)),
        norm={"placement": "post"},
    )


def exaone4(config: ConfigView) -> Spec:
    """EXAONE 4: only windowed layers have positions, unless there is no window at all."""
    refuse_switches(config, "attention_bias", "mlp_bias")
    base, tokens = frame(config, tied=False, context=2048), window(config, 4096)
    kinds = _exaone_kinds(config, base["num_hidden_layers"], tokens)
    return alternating(
        sliding_layers(config, base, kinds, tokens),
        heads(config, kv=32, qk_norm="head"),
        mlp(config, hidden_act=activation(config)),
        full={"rotary_dim": 0} if tokens else None,
        norm={"placement": "post"},
    )


def _exaone_kinds(config: ConfigView, count: int, tokens: int | None) -> list[str]:
    """The pattern is a period, or letters such as LLLG, which stand beside the list they mean."""
    if config.has("layer_types"):
        config.ignore("sliding_window_pattern")
        return layer_types(config, [])
    if tokens is None:
        config.ignore("sliding_window_pattern")
        return [FULL] * count
    return every(config.count("sliding_window_pattern", 4), count)


def gemma(config: ConfigView) -> Spec:
    """Gemma 1. Older configs say gelu and mean its tanh form, which costs the same."""
    block = heads(config, kv=16, dim=256, **biases(config))
    network = mlp(config, hidden_act=_gemma_activation(config))
    refuse_switches(config, "use_bidirectional_attention", "mlp_bias")
    base = frame(config, tied=True, context=8192)
    return mixed(base, [FULL] * base["num_hidden_layers"], {FULL: block}, network)


def _gemma_activation(config: ConfigView) -> str:
    key = "hidden_activation" if config.has("hidden_activation") else "hidden_act"
    config.ignore("hidden_act", "hidden_activation")
    return activation(config, key, "gelu_pytorch_tanh")


def gemma2(config: ConfigView) -> Spec:
    """Gemma 2: every second layer is full, norms on both sides."""
    return _gemma(config, every_layers=2, context=8192, norm={"placement": "sandwich"})


def gemma3(config: ConfigView) -> Spec:
    """The text model of Gemma 3: every sixth layer is full, and heads have norms."""
    period = _gemma3_period(config)
    more = {"norm": {"placement": "sandwich"}}
    return _gemma(config, every_layers=period, context=131072, qk_norm="head", **more)


def _gemma3_period(config: ConfigView) -> int:
    """``sliding_window_pattern`` of old configs; the key with an underscore is only a record."""
    config.ignore("_sliding_window_pattern")
    return config.count("sliding_window_pattern", 6)


def vaultgemma(config: ConfigView) -> Spec:
    """VaultGemma: Gemma 2 without the norms after the blocks."""
    return _gemma(config, every_layers=2, context=8192)


def _gemma(
    config: ConfigView,
    *,
    every_layers: int,
    context: int,
    qk_norm: str = "none",
    norm: Spec | None = None,
) -> Spec:
    refuse_switches(config, "use_bidirectional_attention", "mlp_bias")
    base, tokens = frame(config, tied=True, context=context), window(config, 4096)
    config.require("sliding_window_size", tokens, None)
    kinds = layer_types(config, every(every_layers, base["num_hidden_layers"]))
    return alternating(
        sliding_layers(config, base, kinds, tokens),
        heads(config, kv=4, dim=256, qk_norm=qk_norm, **biases(config)),
        mlp(config, hidden_act=_gemma_activation(config)),
        **({"norm": norm} if norm else {}),
    )


READERS = {
    "MinistralForCausalLM": ministral,
    "Qwen2ForCausalLM": qwen2,
    "Qwen3ForCausalLM": qwen3,
    "SmolLM3ForCausalLM": smollm3,
    "CwmForCausalLM": cwm,
    "GraniteSWAForCausalLM": granite_swa,
    "Olmo3ForCausalLM": olmo3,
    "Exaone4ForCausalLM": exaone4,
    "GemmaForCausalLM": gemma,
    "Gemma2ForCausalLM": gemma2,
    "Gemma3ForCausalLM": gemma3,
    "VaultGemmaForCausalLM": vaultgemma,
}
MODEL_TYPES = {
    "ministral": "MinistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "cwm": "CwmForCausalLM",
    "granite_swa": "GraniteSWAForCausalLM",
    "olmo3": "Olmo3ForCausalLM",
    "exaone4": "Exaone4ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "vaultgemma": "VaultGemmaForCausalLM",
}

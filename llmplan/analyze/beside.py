"""What is held on a GPU beside the model: adapters, a draft model, logits of long prompts.

Everything here is a sum over the operators that the rank holds.
"""

from dataclasses import dataclass
from math import prod
from typing import Final

from llmplan.analyze.offload import is_unified
from llmplan.analyze.rank_facts import RankReader
from llmplan.dtypes import BF16, bytes_for, divide_up
from llmplan.engines.base import Term
from llmplan.engines.facts import LayerCache, RankFacts
from llmplan.engines.profile import Profile
from llmplan.engines.settings import EngineName, Settings
from llmplan.errors import InputError, LayoutError
from llmplan.hardware.device import Device
from llmplan.model.compiled import Model, Part
from llmplan.ops.base import Operator
from llmplan.ops.linear import GroupedLinear
from llmplan.ops.moe import Experts
from llmplan.ops.precision import Role
from llmplan.ops.routed_linear import RoutedLinear
from llmplan.parallel.layout import Layout
from llmplan.parallel.rank import Rank, Splits
from llmplan.units import Provenance, weakest

DENSE_TARGETS: Final = (Role.ATTENTION, Role.FFN, Role.SHARED_EXPERTS)
"""Roles that adapters change where nothing is said: every linear layer but routed experts."""
ADAPTED: Final = (*DENSE_TARGETS, Role.EXPERTS)
"""Roles that adapters may change."""
DEFAULT_RANK: Final = 16
"""Source: vLLM's LoRAConfig, max_lora_rank."""
WITH_ADAPTERS: Final = (EngineName.GENERIC, EngineName.VLLM, EngineName.SGLANG)
WITH_DRAFT: Final = (EngineName.GENERIC, EngineName.VLLM, EngineName.LLAMACPP)
UNSTATED_TOKENS: Final = 8192
"""Tokens of a step where an engine states none: a usual prefill chunk."""
PROMPT_LOGIT_BYTES: Final = 4
"""Log-probabilities of prompts are formed in fp32."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What is wanted beside the model, as far as an engine's settings do not say it.

    Attributes:
        lora_targets: Roles whose matrices get adapters; how many and of which rank is in the
            settings.
        draft: The draft model in the formats it is served in.
        prompt_logits: Log-probabilities of prompt tokens are asked for.
        tier_bytes: Host memory for cache blocks, each GPU.
        host_memory_bytes: Memory of each node's host; None for what the catalogue says.
    """

    lora_targets: tuple[Role, ...] = DENSE_TARGETS
    draft: Model | None = None
    prompt_logits: bool = False
    tier_bytes: int = 0
    host_memory_bytes: int | None = None


MODEL_ALONE: Final = Beside()
"""Nothing beside the model."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing held beside the model on a rank."""

    name: str
    term: Term


@dataclass(frozen=True, slots=True)
class HeldBeside:
    """All of it on one rank.

    Attributes:
        items: What takes memory whatever the requests.
        caches: What a draft model's layers keep of each request.
    """

    items: tuple[Item, ...] = ()
    caches: tuple[tuple[LayerCache, int], ...] = ()

    @property
    def total(self) -> Term:
        """The items together."""
        terms = [item.term for item in self.items]
        return Term(
            sum(term.bytes for term in terms),
            weakest(Provenance.EXACT, *(term.provenance for term in terms)),
            ", ".join(item.name for item in self.items) or "nothing",
        )


NOTHING_HELD: Final = HeldBeside()
"""Of a rank that holds the model alone."""


def adapter_elements(operator: Operator, targets: tuple[Role, ...], rank: int) -> int:
    """Elements of one adapter of ``rank`` for an operator as a rank of the layout holds it.

    A matrix of (out, in) gets A of rank x in and B of out x rank. Where tensor parallelism divides
    the output, B is divided and A is held whole; where it divides the input, the reverse. So
    rank x (in + out) of the divided matrix is what a rank holds. Gate and up, and queries, keys
    and values, have adapters of their own; so has each matrix of each routed expert.

    Raises:
        LayoutError: The operator is no plain matrix.
    Source: vLLM, lora/layers/base_linear.py, column_parallel_linear.py and fused_moe.py, without
        fully_sharded_loras.
    """
    matrices = [w for w in operator.weights if w.role in targets and len(w.shape) > 1]
    if not matrices:
        return 0
    stacked = max(len(weight.shape) for weight in matrices) > 2
    if isinstance(operator, GroupedLinear | RoutedLinear) or (
        stacked and not isinstance(operator, Experts)
    ):
        raise LayoutError(f"adapters of {operator.name}, which is no plain matrix, are not known.")
    return rank * sum(prod(w.shape[:-2]) * sum(w.shape[-2:]) for w in matrices)


def adapters(rank: Rank, layout: Layout, settings: Settings, targets: tuple[Role, ...]) -> Item:
    """Slots for adapters of the decoder's matrices, in 16 bits, made whether they are used or not.

    Raises:
        LayoutError: Experts that have adapters are spread whole over ranks.
    Source: vLLM's LoRAConfig: max_loras slots of max_lora_rank in the model's own 16-bit format;
        its FusedMoEWithLoRA, which refuses expert parallelism.
    """
    if layout.ep and Role.EXPERTS in targets:
        raise LayoutError("adapters of routed experts do not go with expert parallelism.")
    count, width = settings.max_loras or 1, settings.max_lora_rank or DEFAULT_RANK
    elements = sum(
        adapter_elements(operator, targets, width) * repeats
        for operator, repeats in rank.model.decoder.counted
    )
    where = ", ".join(role.value for role in targets)
    note = f"{count} x rank {width} x (in + out) of every matrix of {where}, 16 bits"
    return Item("adapters", Term(bytes_for((count * elements,), BF16), Provenance.EXACT, note))


def draft_facts(draft: Model, layout: Layout, *, vocabulary_multiple: int = 1) -> RankFacts:
    """A draft model on each rank: split as the model is, and whole on its last stage.

    Raises:
        LayoutError: It does not split.
    Source: vLLM's SpeculativeConfig: draft_tensor_parallel_size is the model's own.
    """
    if layout.cache_ways > 1:
        raise LayoutError("a draft model beside context parallelism is not described.")
    own = Layout(tp=layout.tp)
    (rank,) = Splits(draft, vocabulary_multiple).ranks(own)
    return RankReader(draft).facts(rank, own)


def drafted(facts: RankFacts, engine: EngineName) -> HeldBeside:
    """Weights of a draft model, and what its layers keep of each request."""
    table = facts.input_table_bytes if engine is EngineName.LLAMACPP else 0
    note = "stored weights of the draft model" + (", its input table apart" if table else "")
    term = Term(facts.weights_bytes - table, Provenance.EXACT, note)
    return HeldBeside((Item("draft model", term),), facts.caches)


def prompt_logits(facts: RankFacts, settings: Settings) -> Item:
    """Logits of every prompt token of a step, over the whole vocabulary, in fp32.

    Engines cut long prompts into steps, so no more tokens than a step has are held at once.
    Source: vLLM's computation of prompt log-probabilities, a step's tokens at a time.
    """
    tokens = settings.max_num_batched_tokens or UNSTATED_TOKENS
    size = tokens * facts.vocab_size * PROMPT_LOGIT_BYTES
    note = f"{tokens:,} tokens of a step x {facts.vocab_size:,} x {PROMPT_LOGIT_BYTES} bytes"
    return Item("prompt logits", Term(size, Provenance.ASSUMED, note))


def streamed_copy(largest_bytes: int, layout: Layout) -> Item:
    """Room on the GPU for the largest tensor of the host: steps of many tokens copy it over.

    Source: llama.cpp, ggml_backend_cuda_device_offload_op: products of 32 tokens and more.
    """
    note = "room for the largest tensor of the host, which steps of 32 tokens and more copy over"
    size = divide_up(largest_bytes, layout.tp)
    return Item("copy of a host tensor", Term(size, Provenance.ASSUMED, note))


def check_beside(
    beside: Beside, settings: Settings, profile: Profile, model: Model, device: Device
) -> None:
    """Refuse what an engine does otherwise.

    Raises:
        InputError: Naming the option and the reason.
        LayoutError: The model has none of it.
    """
    engine, title = profile.engine, profile.title
    if settings.enable_lora and engine not in WITH_ADAPTERS:
        raise InputError(f"--lora: how {title} holds adapters is not described.")
    is_open = not (settings.max_loras and settings.max_lora_rank)
    if settings.enable_lora and engine is EngineName.SGLANG and is_open:
        raise InputError(
            "SGLang makes slots of the adapters that it is given: say how many with --lora and of "
            "which rank with --lora-rank."
        )
    if settings.enable_lora and model.diffusion:
        raise LayoutError("--lora: adapters of diffusion pipelines are not described.")
    if beside.draft and engine not in WITH_DRAFT:
        raise InputError(
            f"--draft: {title} loads a draft model after it has sized its cache, which is not "
            "described."
        )
    if beside.draft and model.parts(Part.MTP):
        raise LayoutError("--draft and --mtp are two ways to draft: leave one out.")
    if (beside.tier_bytes or settings.swap_space_bytes) and is_unified(device):
        raise InputError(
            f"--kv-offload: CPU and GPU of {device.slug} share one memory, so a tier beside the "
            "cache is the same memory."
        )

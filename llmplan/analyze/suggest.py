"""The nearest changes that would make a deployment fit, each tried before it is named."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from llmplan.analyze.arrange import Wanted
from llmplan.analyze.fit import Answer, Binding, Question, answer
from llmplan.analyze.offload import BY_PARTS, is_unified
from llmplan.dtypes import state_format_named
from llmplan.engines.settings import EngineName
from llmplan.hardware.device import GpuGroup
from llmplan.ops.moe import Experts
from llmplan.parallel.layout import Layout
from llmplan.units import format_tokens

MOST: Final = 5
"""Suggestions shown."""
MOST_NODES: Final = 16
"""Nodes that a suggestion may ask for."""
FRACTIONS: Final = (0.92, 0.95)
"""Shares of a GPU to try; beyond these, steps run out of memory after the start."""
WEIGHT_STEPS: Final = ("fp8", "int4")
"""Weight formats to try, least harmful first."""

Change: TypeAlias = tuple[str, str, Question]
"""In words, as an option, and as a question."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One change that was tried and fits.

    Attributes:
        change: What changes, in words.
        option: The options that make it, as they would be typed.
        answer: What comes out.
    """

    change: str
    option: str
    answer: Answer


def suggestions(failed: Answer) -> tuple[Suggestion, ...]:
    """Changes that make a failed question fit, least harmful first."""
    tried = (_tried(failed.question, change) for change in _changes(failed))
    return tuple(s for s in tried if s.answer.fits)[:MOST]


def _tried(asked: Question, change: Change) -> Suggestion:
    """A change with its answer; where it lets go of a ``--tp``, its option says the new one."""
    words, option, question = change
    found = answer(question)
    if not asked.wanted.is_open and question.wanted.is_open and found.best:
        option = f"{option} {options_of(found.best.arrangement.layout, asked.wanted)}".strip()
    return Suggestion(words, option, found)


def options_of(layout: Layout, instead_of: Wanted) -> str:
    """A layout as options, which also take back what was asked for."""
    words = [f"--tp {layout.tp}"]
    words += [f"--pp {layout.pp}"] if layout.pp > 1 or instead_of.pp else []
    words += [f"--dp {layout.dp}"] if layout.dp > 1 or instead_of.dp else []
    words += [f"--ep {layout.stage_ranks}"] if layout.ep else []
    words += ["--ep 1"] if instead_of.ep and not layout.ep else []
    return " ".join(words)


def _changes(failed: Answer) -> Iterator[Change]:
    """Candidate changes in the order of the harm they do."""
    question = failed.question
    if failed.best and failed.best.binding is Binding.KV:
        yield from _cache_change(question)
    if failed.best and failed.best.binding is Binding.CONTEXT:
        yield from _context_change(question, failed.best.context_limit)
        return
    if not question.wanted.is_open:
        yield "another split", "", replace(question, wanted=_open(question))
    yield from _engine_changes(failed)
    if failed.best and failed.best.binding is Binding.KV:
        yield from _smaller_load(failed)
    yield from _weight_changes(question)
    yield from _larger_groups(question)
    yield from _host_changes(question)


def _cache_change(question: Question) -> Iterator[Change]:
    if question.states.kv.bits > 8:
        fp8 = replace(question.states, kv=state_format_named("fp8"))
        yield "keys and values in fp8", "--kv-dtype fp8", replace(question, states=fp8)


def _smaller_load(failed: Answer) -> Iterator[Change]:
    question, best = failed.question, failed.best
    if best and best.max_concurrency:
        load = replace(question.load, batch=best.max_concurrency)
        yield "fewer requests at once", f"--batch {load.batch}", replace(question, load=load)
    elif best and best.max_context:
        yield from _context_change(question, best.max_context)


def _context_change(question: Question, context: int) -> Iterator[Change]:
    load = replace(question.load, context=context)
    tokens = format_tokens(context).replace(",", "")
    option, settings = f"--context {tokens}", question.settings
    if settings.max_model_len and settings.max_model_len > context:
        option += f" --max-model-len {tokens}"
        settings = settings.with_values({"max_model_len": context})
    yield "a shorter context", option, replace(question, load=load, settings=settings)


def _weight_changes(question: Question) -> Iterator[Change]:
    for name in WEIGHT_STEPS:
        yield f"linear weights in {name}", f"--dtype {name}", replace(question, weights=name)


def _open(question: Question) -> Wanted:
    return Wanted(every=question.wanted.every)


def _engine_changes(failed: Answer) -> Iterator[Change]:
    """More of the GPU, where graphs and requests leave room for it; no graphs at all."""
    question, best = failed.question, failed.best
    if not best or question.profile.engine is EngineName.LLAMACPP:
        return
    frac = best.serving.worst.plan.settings.memory_frac or 0.0
    for more in FRACTIONS:
        if more > frac:
            settings = question.settings.with_values({"memory_frac": more})
            option = f"--gpu-memory-utilization {more:g}"
            yield "more of each GPU", option, replace(question, settings=settings)
            break
    if best.binding is Binding.GRAPHS:
        settings = question.settings.with_values({"enforce_eager": True})
        yield "no captured graphs", "--enforce-eager", replace(question, settings=settings)


def _host_changes(question: Question) -> Iterator[Change]:
    """Experts in host memory: slow, so the last resort."""
    can = question.profile.engine in BY_PARTS and not is_unified(question.group.device)
    has_experts = any(isinstance(o, Experts) for o, _ in question.model.decoder.counted)
    if can and has_experts and not question.settings.experts_on_cpu:
        settings = question.settings.with_values({"experts_on_cpu": True})
        changed = replace(question, settings=settings, wanted=_open(question))
        yield "routed experts in host memory, slow", "--experts-on-cpu", changed


def _larger_groups(question: Question) -> Iterator[Change]:
    for group in _larger(question.group):
        opened = replace(question, group=group, wanted=_open(question))
        yield "more GPUs", f"--gpus {group}", opened


def _larger(group: GpuGroup) -> Iterator[GpuGroup]:
    """The whole node, then twice the nodes and again."""
    whole = group.node.devices if group.node else group.per_node
    per_node = group.per_node
    while per_node < whole:
        per_node = min(2 * per_node, whole)
        yield replace(group, per_node=per_node)
    nodes = group.nodes
    while 2 * nodes <= MOST_NODES:
        nodes *= 2
        yield replace(group, nodes=nodes, per_node=per_node)

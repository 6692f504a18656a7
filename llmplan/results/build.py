"""From analysis values to published results."""

from dataclasses import asdict

from llmplan.analyze.explain import Explained
from llmplan.analyze.fit import SHOWN_CONTEXTS, Answer, Binding, Deployment
from llmplan.analyze.flops import FlopsReport, TokenFlops
from llmplan.analyze.memory import GpuMemory, ModelMemory, weights_bytes
from llmplan.analyze.parameters import parameter_counts
from llmplan.analyze.state import RequestState, request_state
from llmplan.analyze.suggest import Suggestion, suggestions
from llmplan.dtypes import Format
from llmplan.hardware.device import Device, Node
from llmplan.model.compiled import Model
from llmplan.ops.attention import Attention
from llmplan.ops.base import Operator, StateKind
from llmplan.results import schema
from llmplan.units import Provenance, format_tokens


def explanations(rows: tuple[Explained, ...]) -> list[schema.Explanation]:
    """Published form of explanations."""
    return [schema.Explanation(**asdict(row)) for row in rows]


def model_row(model: Model) -> schema.ModelRow:
    """One line, or page, about a model."""
    counts, identity = parameter_counts(model), model.identity
    return schema.ModelRow(
        name=identity.name,
        family=identity.family,
        parameters_total=counts.total,
        parameters_active=counts.active,
        attention=mixer_kinds(model),
        context_length=model.context_length,
        kv_bytes_per_token=request_state(model.served()).growing_bytes_per_token,
        native_weights_bytes=weights_bytes(model.served()),
        license=identity.license,
        release_date=identity.release_date,
        hf_ids=list(identity.hf_ids),
        layers=[f"{count} x {layer.name}" for layer, count in model.decoder.distinct_layers],
        source=identity.source,
        notes=list(identity.notes),
    )


def mixer_kinds(model: Model) -> list[str]:
    """Kinds of token mixer in the decoder, most layers first."""
    counts: dict[str, int] = {}
    for operator, repeats in model.decoder.counted:
        for state in operator.states:
            if state.kind in (StateKind.KV, StateKind.WINDOW, StateKind.RECURRENT):
                kind = _mixer_kind(operator, state.kind)
                counts[kind] = counts.get(kind, 0) + repeats
    return sorted(counts, key=lambda kind: -counts[kind])


def _mixer_kind(operator: Operator, kind: StateKind) -> str:
    if not isinstance(operator, Attention):
        return _MIXER_NAMES.get(type(operator).__name__, type(operator).__name__)
    heads, kv_heads = operator.num_attention_heads, operator.num_key_value_heads
    name = "MHA" if heads == kv_heads else "MQA" if kv_heads == 1 else "GQA"
    if kind is StateKind.KV:
        return name
    return f"{name} {operator.mask.value} {format_tokens(operator.span)}"


_MIXER_NAMES = {
    "ExpandedLatentAttention": "MLA",
    "DeltaRule": "delta rule",
    "LightningAttention": "lightning",
    "Mamba1Scan": "Mamba",
    "Mamba2Scan": "Mamba-2",
    "GatedLinearRecurrence": "RG-LRU",
    "Rwkv6Recurrence": "RWKV-6",
}


def device_row(device: Device) -> schema.DeviceRow:
    """One device."""
    link = device.link
    return schema.DeviceRow(
        slug=device.slug,
        name=device.name,
        vendor=device.vendor,
        architecture=device.architecture,
        status=device.status.value,
        capacity_bytes=device.capacity_bytes,
        capacity_provenance=device.capacity_provenance,
        bandwidth_bytes_per_s=device.bandwidth_bytes_per_s,
        peak_flops_per_s={rate.unit: rate.flops_per_s for rate in device.peaks},
        link=link.name if link else None,
        link_bytes_per_s=link.unidirectional_bytes_per_s if link else None,
        tdp_w=device.tdp_w,
        aliases=list(device.aliases),
        source=device.source,
        source_date=device.source_date,
    )


def node_row(node: Node) -> schema.NodeRow:
    """One node type."""
    return schema.NodeRow(
        slug=node.slug,
        name=node.name,
        device=node.device,
        devices=node.devices,
        topology=node.topology.value,
        link_bytes_per_s=node.link.unidirectional_bytes_per_s if node.link else None,
        scale_out_bytes_per_s=node.scale_out_bytes_per_s,
        source=node.source,
        source_date=node.source_date,
    )


def dtype_row(fmt: Format) -> schema.DtypeRow:
    """One number format."""
    return schema.DtypeRow(
        name=fmt.name, bits_per_weight=fmt.bits_per_weight, compute=fmt.compute, note=fmt.note
    )


def params_result(model: Model, explained: tuple[Explained, ...]) -> schema.ParamsResult:
    """``llmplan params``."""
    counts = parameter_counts(model)
    return schema.ParamsResult(
        model=model.identity.name,
        parameters=schema.Parameters(
            total=counts.total,
            active=counts.active,
            buffers=counts.buffers,
            mtp=counts.mtp,
            vision=counts.vision,
            embedding=counts.embedding,
        ),
        components=[schema.ComponentCount(**asdict(role)) for role in counts.roles],
        provenance=Provenance.EXACT,
        explain=explanations(explained),
    )


def flops_result(
    model: Model, report: FlopsReport, explained: tuple[Explained, ...]
) -> schema.FlopsResult:
    """``llmplan flops``."""
    return schema.FlopsResult(
        model=model.identity.name,
        flops_per_token=schema.FlopsPerToken(
            decode=report.decode.total,
            prefill=report.prefill.total,
            decode_absorbed=report.decode_absorbed.total,
        ),
        breakdown={
            "decode": _breakdown(report.decode),
            "prefill": _breakdown(report.prefill),
            "decode_absorbed": _breakdown(report.decode_absorbed),
        },
        provenance=Provenance.EXACT,
        explain=explanations(explained),
    )


def _breakdown(flops: TokenFlops) -> schema.FlopsBreakdown:
    return schema.FlopsBreakdown(**asdict(flops))


def kv_cache(state: RequestState, context: int, total_bytes: int) -> schema.KvCache:
    """What requests keep."""
    return schema.KvCache(
        bytes_per_token=state.growing_bytes_per_token,
        indexer_bytes_per_token=state.indexer_bytes_per_token,
        bytes_per_request_fixed=state.fixed_bytes,
        recurrent_bytes=state.recurrent_bytes,
        convolution_bytes=state.convolution_bytes,
        window_bytes=state.full_window_bytes,
        bytes_per_request=state.bytes_at(context),
        bytes_per_request_reserved_as_full=state.bytes_reserved_as_full(context),
        total_bytes=total_bytes,
    )


def memory_result(
    model: Model,
    memory: ModelMemory,
    context: int,
    answer: Answer | None,
    explained: tuple[Explained, ...],
) -> schema.MemoryResult:
    """``llmplan memory``; ``answer`` where GPUs were given."""
    best = answer.best if answer else None
    device = answer.question.group.device if answer else None
    return schema.MemoryResult(
        model=model.identity.name,
        weights_bytes=memory.weights_bytes,
        kv_cache=kv_cache(memory.state, context, memory.kv_bytes),
        activations_bytes=memory.activations_bytes,
        total_bytes=memory.total_bytes,
        provenance={
            "weights_bytes": Provenance.EXACT,
            "kv_cache": Provenance.EXACT,
            "activations_bytes": Provenance.ASSUMED,
            "total_bytes": Provenance.ASSUMED,
        },
        layout=str(best.layout) if best else None,
        per_gpu=per_gpu(best.gpu, device) if best and device else None,
        kv_tokens=best.kv_tokens if best else None,
        max_concurrency=best.max_concurrency if best else None,
        fits=best.fits if best else None,
        explain=explanations(explained),
    )


def per_gpu(gpu: GpuMemory, device: Device) -> schema.PerGpu:
    """Memory of each GPU."""
    assumed = Provenance.ASSUMED
    return schema.PerGpu(
        capacity_bytes=gpu.capacity_bytes,
        budget_bytes=gpu.budget_bytes,
        weights_bytes=gpu.weights_bytes,
        activations_bytes=gpu.reserve.activations_bytes,
        non_torch_bytes=gpu.reserve.non_torch_bytes,
        graphs_bytes=gpu.reserve.graphs_bytes,
        kv_available_bytes=gpu.kv_available_bytes,
        headroom_bytes=gpu.headroom_bytes,
        provenance={
            "capacity_bytes": device.capacity_provenance,
            "activations_bytes": assumed,
            "non_torch_bytes": assumed,
            "graphs_bytes": assumed,
            "kv_available_bytes": assumed,
        },
    )


def fit_row(answer: Answer, deployment: Deployment | None) -> schema.DeploymentRow:
    """One deployment, with tried changes where it does not fit."""
    question = answer.question
    tries = [] if deployment and deployment.fits else [try_row(s) for s in suggestions(answer)]
    names = {
        "model": question.model.identity.name,
        "dtype": question.weights,
        "kv_dtype": question.states.kv.name,
    }
    if deployment is None:
        return schema.DeploymentRow(
            **names, layout="", fits=False, weights_bytes_per_gpu=0, kv_available_bytes_per_gpu=0,
            max_context=0, kv_tokens=0, max_concurrency=0,
            concurrency_at={str(c): 0 for c in SHOWN_CONTEXTS}, binding=Binding.LAYOUT.value,
            reason=answer.refusals[0] if answer.refusals else "no layout", try_=tries,
        )  # fmt: skip
    return schema.DeploymentRow(
        **names,
        layout=str(deployment.layout),
        fits=deployment.fits,
        weights_bytes_per_gpu=deployment.gpu.weights_bytes,
        kv_available_bytes_per_gpu=deployment.gpu.kv_available_bytes,
        max_context=deployment.max_context,
        kv_tokens=deployment.kv_tokens,
        max_concurrency=deployment.max_concurrency,
        concurrency_at={str(c): deployment.concurrency_at(c) for c in SHOWN_CONTEXTS},
        binding=deployment.binding.value,
        reason=deployment.reason,
        try_=tries,
    )


def try_row(suggestion: Suggestion) -> schema.TryRow:
    """A change that fits."""
    best = suggestion.answer.deployments[0]
    return schema.TryRow(
        change=suggestion.change,
        option=suggestion.option,
        layout=str(best.layout),
        max_context=best.max_context,
        max_concurrency=best.max_concurrency,
    )

"""Lists: models of the catalogue, devices, nodes and number formats."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from llmplan.analyze.memory import weights_bytes
from llmplan.analyze.parameters import parameter_counts
from llmplan.analyze.state import request_state
from llmplan.dtypes import Format, listed_formats
from llmplan.errors import UnknownNameError
from llmplan.hardware.catalogue import list_devices, list_nodes, load_device
from llmplan.hardware.device import Device, Node
from llmplan.model.catalogue import Found, is_known, load_model, spec_paths
from llmplan.model.compiled import Model
from llmplan.model.listed import listed_model, listed_models
from llmplan.model.listed.spec import ListedModel
from llmplan.ops.attention import Attention
from llmplan.ops.base import Operator, StateKind
from llmplan.ops.reused import Reused
from llmplan.results import schema
from llmplan.results.common import Said
from llmplan.results.kept_rows import kept_rows
from llmplan.units import format_tokens, parse_bytes, parse_tokens

_MIXER_NAMES: Final = {
    "ExpandedLatentAttention": "MLA",
    "CompressedAttention": "compressed entries",
    "CrossAttention": "cross",
    "DeltaRule": "delta rule",
    "LightningAttention": "lightning",
    "MatrixLstm": "mLSTM",
    "Mamba1Scan": "Mamba",
    "Mamba2Scan": "Mamba-2",
    "GatedLinearRecurrence": "RG-LRU",
    "Rwkv6Recurrence": "RWKV-6",
}


_MIXER_STATES: Final = (
    StateKind.KV,
    StateKind.WINDOW,
    StateKind.RECURRENT,
    StateKind.CROSS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsQuestion:
    """Which models are known, or what is known of one."""

    model: str | None = None
    family: str | None = None
    attention: str | None = None
    license: str | None = None
    min_context: str | None = None
    max_weights: str | None = None
    sort: str = "name"

    def ask(self) -> schema.Envelope:
        """The answer.

        Raises:
            UnknownNameError: No such model or family.
            InputError: A size or context that cannot be read.
        """
        listed = self._listed()
        if self.model is not None and listed:
            return Said("models", asdict(self)).answered(
                schema.ModelsResult(models=[], listed=listed)
            )
        rows, remarks = self._rows()
        if self.family is not None:
            families = sorted({row.family for row in rows} | {row.family for row in listed})
            rows = [row for row in rows if row.family == self.family.lower()]
            listed = [row for row in listed if row.family == self.family.lower()]
            if not rows and not listed:
                known = f"Known: {', '.join(families)}."
                raise UnknownNameError("family", self.family, families, known)
        rows = sorted(filter(self._wanted, rows), key=SORT_KEYS[self.sort])
        said = Said("models", asdict(self), remarks)
        return said.answered(schema.ModelsResult(models=rows, listed=listed))

    def _rows(self) -> tuple[list[schema.ModelRow], tuple[str, ...]]:
        """Rows of the one model or of all, and what was assumed."""
        if self.model is not None:
            model = load_model(self.model)
            return [model_row(model)], model.identity.assumptions
        paths = spec_paths()
        rows = kept_rows(paths, lambda: [model_row(load_model(path.stem)) for path in paths])
        return rows, tuple(text for path in paths for text in Found(path).remark)

    def _listed(self) -> list[schema.ListedRow]:
        """Models without numbers, where no filter asks for one; of one model, if it is such."""
        if self.model is not None:
            found = listed_model(self.model)
            return [listed_row(found)] if found and not is_known(self.model) else []
        filters = (self.attention, self.license, self.min_context, self.max_weights)
        return [] if any(filters) else [listed_row(model) for model in listed_models()]

    def _wanted(self, row: schema.ModelRow) -> bool:
        """Whether a row passes all filters."""
        context = parse_tokens(self.min_context) if self.min_context else 0
        mixers = " ".join(row.attention).lower()
        return (
            (self.attention or "").lower() in mixers
            and (self.license or "").lower() in row.license.lower()
            and row.context_length >= context
            and (
                self.max_weights is None
                or row.native_weights_bytes <= parse_bytes(self.max_weights)
            )
        )


SORT_KEYS: Final[dict[str, Callable[[schema.ModelRow], tuple[object, ...]]]] = {
    "name": lambda row: (row.name,),
    "family": lambda row: (row.family, row.name),
    "total": lambda row: (row.parameters_total,),
    "active": lambda row: (row.parameters_active,),
    "context": lambda row: (row.context_length,),
    "kv": lambda row: (row.kv_bytes_per_token,),
    "release": lambda row: (row.release_date or "",),
}
"""Orders of the list, smallest and earliest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareQuestion:
    """Which devices, nodes or number formats are known."""

    device: str | None = None
    dtypes: bool = False

    def ask(self) -> schema.Envelope:
        """The answer.

        Raises:
            UnknownNameError: No such device.
        """
        said = Said("hardware", {"device": self.device, "dtypes": self.dtypes})
        if self.dtypes:
            rows = [dtype_row(fmt) for fmt in listed_formats()]
            return said.answered(schema.HardwareResult(dtypes=rows))
        devices = list_devices() if self.device is None else [load_device(self.device)]
        slugs = {device.slug for device in devices}
        nodes = [node_row(node) for node in list_nodes() if node.device in slugs]
        result = schema.HardwareResult(devices=[device_row(d) for d in devices], nodes=nodes)
        return said.answered(result)


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
        variants=[f"{hub_id} ({context:,} tokens)" for hub_id, context in identity.variants],
        layers=[f"{count} x {layer.name}" for layer, count in model.decoder.distinct_layers],
        source=identity.source,
        notes=list(identity.notes),
    )


def listed_row(model: ListedModel) -> schema.ListedRow:
    """One model that is known by name only."""
    return schema.ListedRow(
        name=model.name,
        family=model.family,
        status=model.status,
        reason=model.reason,
        published=model.published.model_dump() if model.published else {},
        hf_ids=list(model.hf_ids),
        source=f"{model.source.document}, read {model.source.date}",
    )


def mixer_kinds(model: Model) -> list[str]:
    """Kinds of token mixer in the decoder, most layers first."""
    if model.diffusion:
        return ["full, no cache"]
    counts: dict[str, int] = {}
    for operator, repeats in model.decoder.counted:
        for state in operator.states:
            if state.kind in _MIXER_STATES:
                kind = _mixer_kind(operator, state.kind)
                counts[kind] = counts.get(kind, 0) + repeats
    return sorted(counts, key=lambda kind: -counts[kind])


def _mixer_kind(operator: Operator, kind: StateKind) -> str:
    if isinstance(operator, Reused):
        return _mixer_kind(operator.operator, kind)
    if not isinstance(operator, Attention):
        return _MIXER_NAMES.get(type(operator).__name__, type(operator).__name__)
    heads, kv_heads = operator.num_attention_heads, operator.num_key_value_heads
    name = "MHA" if heads == kv_heads else "MQA" if kv_heads == 1 else "GQA"
    if kind is StateKind.KV:
        return name
    return f"{name} {operator.mask.value} {format_tokens(operator.span)}"


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

"""What a page says of a measured decode step."""

from typing import Any

from llmplan.results import schema
from llmplan.units import format_flops, format_gib, format_seconds


def utilisation_facts(
    found: schema.Utilisation | None, inputs: dict[str, Any]
) -> tuple[tuple[str, str], ...]:
    """Facts of the step; none where none was measured."""
    if found is None:
        return ()
    requests = f"{inputs['batch']:,} request{'s' * (inputs['batch'] != 1)}"
    asked = f"{format_flops(found.flops_per_step)}, {format_gib(found.bytes_per_step)} read"
    return (
        ("measured", f"a decode step of {requests} in {format_seconds(found.step_s)}"),
        ("on", f"{inputs['gpus']}, weights {inputs['dtype']}, KV {inputs['kv_dtype']}"),
        ("the step asks for", asked),
        ("MFU, of dense peak", _share(found.mfu_frac)),
        ("MBU, of bandwidth", _share(found.mbu_frac)),
        ("bound at peak by", found.bound or "not known"),
    )


def _share(frac: float | None) -> str:
    return "not known" if frac is None else f"{frac:.2%}"

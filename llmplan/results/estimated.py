"""Estimates in their published form."""

from collections.abc import Iterator
from typing import Any

from llmplan.analyze.breakdown import (
    Breakdown,
    Row,
    Term,
    decode_breakdown,
    first_token_terms,
    peaks_used,
    prompt_breakdown,
)
from llmplan.analyze.energy import energy
from llmplan.analyze.estimate import Estimate
from llmplan.analyze.ranges import Figure
from llmplan.hardware.device import Device
from llmplan.results import schema
from llmplan.units import Provenance, weakest

MS = 1e3
PAGE = "docs/math/serving.md"
PLAIN = ("requests_per_s", "input_tokens_per_s", "decoding", "waiting")
"""Figures without a range: as well known as the rate that they go with."""


def figure(found: Figure, *, per: float = 1.0) -> schema.Estimated:
    """A figure, or what each of ``per`` has of it."""
    return schema.Estimated(
        low=found.low / per,
        value=found.value / per,
        high=found.high / per,
        provenance=found.provenance,
        note=found.note,
    )


def figures(found: Estimate) -> dict[str, Any]:
    """What clients see; latencies are left out where the queue has no end."""
    rate, requests = found.output_tokens_per_s, found.requests_per_s
    told: dict[str, Any] = {
        "output_tokens_per_s": figure(rate),
        "output_tokens_per_s_per_gpu": figure(rate, per=found.deployed.gpus),
        "requests_per_s": requests,
        "input_tokens_per_s": requests * found.traffic.isl,
        "is_overloaded": found.is_overloaded,
        "provenance": dict.fromkeys(PLAIN, rate.provenance),
    }
    if found.is_overloaded:
        return told
    return told | {
        "ttft_s": figure(found.ttft_s),
        "tpot_s": figure(found.tpot_s),
        "e2e_s": figure(found.e2e_s),
        "decoding": found.decoding,
        "waiting": found.waiting * found.deployed.workers,
    }


def details(found: Estimate) -> dict[str, Any]:
    """Where the time goes, and the energy."""
    if found.is_overloaded:
        return {}
    decode, prefill = decode_breakdown(found), prompt_breakdown(found)
    rows = (*_operators("decode", decode), *_operators("prefill", prefill))
    drawn = energy(found)
    told = drawn and schema.Energy(
        gpu_w=figure(drawn.gpu_w), joules_per_output_token_j=figure(drawn.token_j)
    )
    device = found.deployed.device
    return {
        "steps": schema.Steps(decode=_step(decode), prefill=_step(prefill)),
        "operators": list(rows),
        "roofline": schema.Roofline(
            roofs=_roofs((decode, prefill), device),
            points=[*_points("decode", decode), *_points("prefill", prefill)],
        ),
        "energy": told,
    }


def sweep_row(found: Estimate) -> schema.SweepRow:
    """The figures at one concurrency."""
    return schema.SweepRow(
        concurrency=found.traffic.concurrency or 0.0,
        ttft_s=figure(found.ttft_s),
        tpot_s=figure(found.tpot_s),
        output_tokens_per_s=figure(found.output_tokens_per_s),
        output_tokens_per_s_per_gpu=figure(found.output_tokens_per_s, per=found.deployed.gpus),
        waiting=found.waiting * found.deployed.workers,
    )


def slo_rows(found: Estimate, limits: dict[str, float]) -> list[schema.SloRow]:
    """Bounds on latencies; none is held where the queue has no end."""
    told = {"ttft_s": found.ttft_s, "tpot_s": found.tpot_s}
    return [
        schema.SloRow.model_validate(
            {
                "metric": key,
                "limit_s": limit,
                "is_met": told[key].value <= limit and not found.is_overloaded,
                "is_low_met": told[key].low <= limit and not found.is_overloaded,
            }
        )
        for key, limit in limits.items()
    ]


def _step(found: Breakdown) -> schema.StepRow:
    share = {bound.value: frac for bound, frac in found.bound_share().items()}
    return schema.StepRow(
        seconds=found.seconds,
        requests=found.requests,
        tokens=found.tokens,
        context=found.context,
        mfu_frac=found.mfu_frac,
        mbu_frac=found.mbu_frac,
        roofline_s=found.roofline_s,
        host_s=found.host_s,
        leftover_times=found.leftover_times,
        bound_share=schema.BoundShare(**share),
        provenance=weakest(*(row.provenance for row in found.rows)),
    )


def _operators(step: str, found: Breakdown) -> Iterator[schema.OperatorRow]:
    whole = found.seconds
    for row in found.rows:
        yield schema.OperatorRow.model_validate(
            {
                "step": step,
                "name": row.name,
                "kind": row.kind,
                "count": row.count,
                "seconds": row.seconds,
                "share_frac": row.seconds / whole,
                "bound": row.bound.value,
                "compute_s": row.compute_s,
                "memory_s": row.memory_s,
                "network_s": row.network_s,
                "flops": row.flops,
                "bytes": row.moved_bytes,
                "efficiency_frac": row.efficiency_frac,
                "provenance": row.provenance,
                "note": row.note,
            }
        )


def _points(step: str, found: Breakdown) -> Iterator[schema.RooflinePoint]:
    for row in found.rows:
        if row.flops and row.moved_bytes:
            yield schema.RooflinePoint.model_validate(
                {
                    "step": step,
                    "name": row.name,
                    "flops_per_byte": row.flops / row.moved_bytes,
                    "flops_per_s": row.flops / row.seconds,
                    "provenance": row.provenance,
                }
            )


def _roofs(found: tuple[Breakdown, ...], device: Device) -> list[schema.Roof]:
    rows: tuple[Row, ...] = tuple(row for each in found for row in each.rows)
    return [
        schema.Roof(
            format=peak.unit,
            flops_per_s=peak.flops_per_s,
            bytes_per_s=device.bandwidth_bytes_per_s or 0.0,
            provenance=Provenance.PUBLISHED,
            source=f"{device.source} ({device.source_date})",
        )
        for peak in peaks_used(rows, device)
    ]


def explained(found: Estimate) -> list[schema.Explanation]:
    """How the times come about."""
    if found.is_overloaded:
        return []
    return [*_first_token(found), *_between(found), *_rate(found)]


def _ms(seconds: float) -> str:
    return f"{seconds * MS:,.2f} ms"


def _one(term: str) -> str:
    """A term of a sum, its own list of parts in brackets."""
    return f"({term})" if "," in term else term


def _first_token(found: Estimate) -> Iterator[schema.Explanation]:
    terms: tuple[Term, ...] = first_token_terms(found)
    yield schema.Explanation(
        quantity="ttft_s",
        formula=" + ".join(_one(term.name) for term in terms),
        values=" + ".join(_ms(term.seconds) for term in terms).replace("+ -", "- "),
        result=_ms(found.ttft_s.value),
        source=PAGE,
    )


def _between(found: Estimate) -> Iterator[schema.Explanation]:
    step, tokens = float(found.steady.step_s[0]), found.drafts.accepted
    prompts = found.tpot_s.value * tokens - step
    yield schema.Explanation(
        quantity="tpot_s",
        formula="(decode step + prompts of others in it) / tokens a step",
        values=f"({_ms(step)} + {_ms(prompts)}) / {tokens:.3g}",
        result=_ms(found.tpot_s.value),
        source=PAGE,
    )


def _rate(found: Estimate) -> Iterator[schema.Explanation]:
    osl = found.traffic.osl
    yield schema.Explanation(
        quantity="output_tokens_per_s",
        formula="requests a second x output tokens",
        values=f"{found.requests_per_s:,.4f} x {osl:,.0f}",
        result=f"{found.output_tokens_per_s.value:,.1f} tokens a second",
        source=PAGE,
    )

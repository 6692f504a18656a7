"""Counts of a compiled model in the columns of ``oracles/models.yaml``, and that table."""

from pathlib import Path

import yaml

from llmplan.dtypes import divide_exactly
from llmplan.model.compiled import Model, Part
from llmplan.ops.base import StateKind

ORACLES = yaml.safe_load((Path(__file__).parent / "oracles" / "models.yaml").read_text())


def counts(model: Model) -> dict[str, int]:
    """Every column, as sums over operators."""
    published = model.served()
    states = [(s, n) for o, n in published.counted() for s in o.states]

    def parameters(*parts: Part) -> int:
        return sum(o.parameters * n for c in model.parts(*parts) for o, n in c.counted)

    def state_bytes(kind: StateKind) -> int:
        sizes = (
            divide_exactly(s.width_bytes * max(s.window, 1) * n, s.tokens_per_entry)
            for s, n in states
            if s.kind is kind
        )
        return sum(sizes)

    mtp_buffers = sum(o.buffers * n for c in model.parts(Part.MTP) for o, n in c.counted)
    return {
        "total": sum(o.parameters * n for o, n in published.counted()),
        "buffers": sum(o.buffers * n for o, n in published.counted()),
        "mtp": parameters(Part.MTP) + mtp_buffers,
        "vision": parameters(Part.VISION, Part.PROJECTOR),
        "active": sum(o.active_parameters * n for o, n in model.decoder.counted),
        "kv": state_bytes(StateKind.KV),
        "indexer": state_bytes(StateKind.INDEXER),
        "recurrent": state_bytes(StateKind.RECURRENT),
        "convolution": state_bytes(StateKind.CONVOLUTION),
        "window": state_bytes(StateKind.WINDOW),
        "cross": state_bytes(StateKind.CROSS),
    }

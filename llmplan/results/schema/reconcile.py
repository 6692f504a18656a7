"""The log of a start beside its prediction, and corrections kept from it."""

from typing import Any

from llmplan.results.schema.common import Published


class ReconcileRow(Published):
    """One term of a start, logged and predicted, in bytes or tokens of one GPU."""

    term: str
    """capacity, budget, weights, activations, non_torch, graphs, kv_available, kv_tokens,
    max_concurrency or verdict."""
    log: int | float | str | None
    """What the log says; null where it says nothing."""
    line: int | None
    """Line of the log, from 1."""
    rank: str | None
    """Rank that printed it, as the log names it: the one that holds most or has least left."""
    predicted: int | float | str | None
    """llmplan's figure; null where the two cannot be compared."""
    delta: int | float | None
    """Predicted less logged."""
    error_frac: float | None
    """The same over the logged figure; of a verdict 0 or 1."""
    note: str
    """What has to be known to compare them."""


class CorrectionRow(Published):
    """What later answers for an engine are corrected by: measured less predicted, a GPU."""

    name: str
    """Name, by which it is forgotten."""
    engine: str
    """Engine that it holds for."""
    version: str
    """Version line that it holds for."""
    device: str
    """GPU that it holds for."""
    ranks: str
    """Ranks that it holds for: one, stages (pipeline only) or many."""
    weights_bytes: int | None
    """What loading adds; null where the log does not say, as below."""
    activations_scale: float | None
    """Measured activations over predicted ones."""
    non_torch_bytes: int | None
    """Libraries and communication buffers."""
    graphs_bytes: int | None
    """Captured graphs."""
    log: str
    """File name of the log."""
    sha256: str
    """Digest of the log."""
    date: str
    """Day on which it was read."""
    model: str
    """Model of the log."""
    llmplan: str
    """Program version that it corrects."""


class ReconcileResult(Published):
    """``llmplan reconcile``."""

    log: str
    """File name of the log."""
    lines: int
    """Lines that were read."""
    engine: str
    """Engine that wrote it."""
    version: str | None
    """Version as printed."""
    model: str
    """Model that was predicted."""
    layout: str
    """Layout that was predicted."""
    outcome: str
    """How the start ended: ok, oom, kv_too_small or unknown."""
    outcome_line: int | None
    """Line that says so."""
    rows: list[ReconcileRow]
    """Terms."""
    settings: dict[str, Any]
    """Settings that the log states."""
    missing: list[str]
    """What the log does not say."""
    correction: CorrectionRow | None
    """What --save keeps; null where the log does not allow one."""
    saved: str | None
    """File that it was kept in."""


class CorrectionsResult(Published):
    """``llmplan reconcile --list`` and ``--forget``."""

    corrections: list[CorrectionRow]
    """Corrections that are kept."""

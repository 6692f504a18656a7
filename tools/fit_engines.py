"""Fit the terms of engine profiles to measured starts: ``python tools/fit_engines.py``.

Writes ``llmplan/engines/profiles/fitted.yaml``. Each term is a median over the rows that state it,
so that single odd starts do not move it; what is too rare for a median is taken from the rows as it
stands and marked assumed. For every term, each model family is then left out in turn, and the error
on its rows by the terms of the others is printed, so that over-fitting shows.
"""

import argparse
import csv
import datetime as dt
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml

from llmplan.analyze.measured import Skipped
from llmplan.analyze.measured_rows import Asked, asked_by, gib
from llmplan.analyze.serving import Serving
from llmplan.analyze.validate_memory import errors, shipped_rows, validated_memory
from llmplan.engines.placing import where
from llmplan.engines.profile import Profile, Ranks
from llmplan.engines.vllm import MOST_CAPTURED, capture_sizes

TARGET = Path(__file__).parent.parent / "llmplan" / "engines" / "profiles" / "fitted.yaml"


@dataclass(frozen=True)
class Start:
    """A measured start with the prediction it is compared with."""

    asked: Asked
    serving: Serving

    @property
    def profile(self) -> Profile:
        """The engine at its version."""
        return self.asked.profile

    @property
    def family(self) -> str:
        """Model family."""
        return self.asked.row["family"]

    def measured(self, column: str) -> int | None:
        """Bytes of a cell."""
        return gib(self.asked.row.get(column, ""))


@dataclass(frozen=True)
class Rule:
    """One value of one term.

    Attributes:
        engine: The engine.
        term: Name of the term.
        conditions: Its conditions, as the profile states them.
        rows: Which starts it is fitted to.
        sample: What a start says of it; None where it says nothing.
        fallback: The value where fewer than ``LEAST`` starts say anything.
    """

    engine: str
    term: str
    conditions: dict[str, object]
    rows: Callable[[Start], bool]
    sample: Callable[[Start], float | None]
    fallback: float


LEAST = 3
"""Starts that a median needs."""


def main(argv: list[str]) -> int:
    """Fit, print the left-out errors, and write the profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=shipped_rows())
    parser.add_argument("--output", type=Path, default=TARGET)
    parser.add_argument("--dry-run", action="store_true", help="print, write nothing")
    options = parser.parse_args(argv)
    starts = list(read_starts(options.data))
    print(f"{len(starts)} starts of {options.data.name} are answered and used")
    engines: dict[str, dict[str, list[dict[str, object]]]] = {}
    for rule in RULES:
        value, used, residual = fitted(rule, starts)
        entry: dict[str, object] = dict(rule.conditions)
        entry["value"] = float(f"{value:.4g}")
        entry["provenance"] = "fitted" if used >= LEAST else "assumed"
        if used >= LEAST:
            entry |= {"rows": used, "residual": float(f"{residual:.2g}")}
        engines.setdefault(rule.engine, {}).setdefault(rule.term, []).append(entry)
        print(
            f"{rule.engine:10} {rule.term:24} {rule.conditions} = {value:.4g} "
            f"({used} rows, residual {residual:.3g}, left out {left_out(rule, starts)})"
        )
    document = {
        "data": "hardware/measured/engine_memory.csv",
        "date": dt.datetime.now(tz=dt.UTC).date(),
        "tool": "tools/fit_engines.py",
        "engines": engines,
        "errors": measured_errors(options.data),
    }
    if not options.dry_run:
        head = "# written by tools/fit_engines.py: do not edit\n"
        options.output.write_text(head + yaml.safe_dump(document, sort_keys=False, width=100))
    return 0


def measured_errors(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Errors of answers with the profile as it is: run the tool until it writes the same again."""
    rows = validated_memory(path)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for engine in sorted({row.engine for row in rows}):
        for metric in ("weights_bytes", "kv_bytes", "kv_tokens"):
            own = [row for row in rows if row.engine == engine and row.metric == metric]
            error = errors(own)
            if error.predicted >= LEAST:
                found.setdefault(engine, {})[metric] = {
                    "rows": error.predicted,
                    "median": float(f"{error.median_abs_frac:.2g}"),
                    "p90": float(f"{error.p90_abs_frac:.2g}"),
                }
    return found


def read_starts(path: Path) -> Iterable[Start]:
    """The rows that can be answered."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                asked = asked_by(row)
                yield Start(asked, asked.answer())
            except Skipped:
                continue


def samples(rule: Rule, starts: Iterable[Start]) -> list[tuple[str, float]]:
    """Family and value of every start that a rule is fitted to."""
    found = []
    for start in starts:
        if start.profile.engine.value == rule.engine and rule.rows(start):
            value = rule.sample(start)
            if value is not None:
                found.append((start.family, value))
    return found


def fitted(rule: Rule, starts: list[Start]) -> tuple[float, int, float]:
    """Value, starts used, median residual."""
    values = [value for _, value in samples(rule, starts)]
    if len(values) < LEAST:
        return rule.fallback, len(values), 0.0
    middle = median(values)
    return middle, len(values), median(abs(value - middle) for value in values)


def left_out(rule: Rule, starts: list[Start]) -> str:
    """Median absolute difference on a family's rows to the median of all other families."""
    found = samples(rule, starts)
    differences = []
    for family in {family for family, _ in found}:
        others = [value for other, value in found if other != family]
        if len(others) >= LEAST:
            middle = median(others)
            differences += [abs(value - middle) for other, value in found if other == family]
    return f"{median(differences):.3g}" if differences else "too few families"


def _weights(start: Start) -> float | None:
    """What loading added, of starts whose stored bytes are known within 1 %."""
    measured = start.measured("weights_gib_per_gpu")
    if measured is None:
        return None
    rank = start.serving.ranks[0]
    added = measured - rank.facts.weights_bytes
    return float(added) if abs(added) < 0.01 * measured else None


def _logit_state(start: Start) -> float | None:
    """Bytes a logit beyond its own, where the sampler decides the peak."""
    peak, rank = start.measured("activation_gib"), start.serving.ranks[-1]
    settings = rank.plan.settings
    if peak is None or not rank.facts.vocab_size or start.asked.layout.pp > 1:
        return None
    if rank.facts.has_vision:
        return None
    tokens, sequences = settings.max_num_batched_tokens or 0, settings.max_num_seqs or 0
    layer = tokens * rank.facts.dense_token_bytes
    workspace = tokens * rank.facts.expert_token_bytes
    peak -= workspace if start.profile.is_since("0.17") else 0
    if peak < 1.2 * layer:
        return None
    logits = sequences * rank.facts.vocab_size
    return (peak - tokens * rank.facts.hidden_token_bytes) / logits - rank.facts.logit_bytes


def _live(start: Start) -> float | None:
    """Peak over a layer's width, where the layer decides it: long prompts, small vocabularies."""
    peak, rank = start.measured("activation_gib"), start.serving.ranks[-1]
    settings = rank.plan.settings
    if peak is None or rank.facts.has_vision or rank.facts.expert_token_bytes:
        return None
    tokens, sequences = settings.max_num_batched_tokens or 0, settings.max_num_seqs or 0
    if not start.profile.is_since("0.8"):
        tokens = max(tokens, settings.max_model_len or 0)
    layer = tokens * rank.facts.dense_token_bytes
    logits = 20 * sequences * rank.facts.vocab_size
    return peak / layer if layer > 1.1 * logits else None


def _vision(start: Start) -> float | None:
    """Peak beyond what the language model explains."""
    peak, rank = start.measured("activation_gib"), start.serving.ranks[0]
    if peak is None or not rank.facts.has_vision or not start.profile.is_since("0.8"):
        return None
    known = rank.plan.held.activations.bytes - int(start.profile.number("vision_peak_bytes"))
    return max(float(peak - known), 0.0)


def _non_torch(start: Start) -> float | None:
    measured = start.measured("non_torch_gib")
    return None if measured is None else float(measured)


def _before_load(start: Start) -> float | None:
    """Device total less what was free before loading, as notes state it."""
    match = re.search(r"avail before load ([\d.]+) GB", start.asked.row.get("notes", ""))
    if not match:
        return None
    return start.asked.device.capacity_bytes - float(match[1]) * 2**30


def _graph_layer(start: Start) -> float | None:
    """Bytes a layer of a full capture, less the base."""
    measured = start.measured("cuda_graph_gib")
    rank = start.serving.ranks[0]
    if measured is None or measured < 0.2 * 2**30 or not start.profile.is_since("0.8"):
        return None
    largest = min(2 * (rank.plan.settings.max_num_seqs or 0), MOST_CAPTURED)
    full = measured * capture_sizes(MOST_CAPTURED) / capture_sizes(largest)
    return (full - GRAPH_BASE) / rank.facts.num_layers


GRAPH_BASE = 0.28 * 2**30
"""Intercept of graph memory over layers."""


def _ranks(start: Start) -> Ranks:
    rank = start.serving.ranks[0]
    return where(rank.facts, start.serving.gpu).ranks


def _capability(start: Start) -> float:
    rank = start.serving.ranks[0]
    return where(rank.facts, start.serving.gpu).capability or 99.0


def _since(version: str, until: str = "99.0") -> Callable[[Start], bool]:
    return lambda start: start.profile.is_since(version) and not start.profile.is_since(until)


def _all(*tests: Callable[[Start], bool]) -> Callable[[Start], bool]:
    return lambda start: all(test(start) for test in tests)


def _place(ranks: Ranks) -> Callable[[Start], bool]:
    return lambda start: _ranks(start) is ranks


def _below(capability: float, least: float = 0.0) -> Callable[[Start], bool]:
    return lambda start: least <= _capability(start) < capability


def _switched(value: bool) -> Callable[[Start], bool]:  # noqa: FBT001 (a predicate factory)
    return lambda start: start.serving.gpu.is_switched is value


ONE, STAGES, MANY = Ranks.ONE, Ranks.STAGES, Ranks.MANY
MIB = float(2**20)
RULES = (
    Rule("vllm", "loading_overhead_bytes", {"since": "0.5"}, _since("0.5"), _weights, 5 * MIB),
    Rule("vllm", "dense_live_frac", {"since": "0.5"}, _since("0.5"), _live, 1.0),
    Rule("vllm", "logit_state_bytes", {"since": "0.5"}, _since("0.5", "0.8"), _logit_state, 22.0),
    Rule(
        "vllm", "logit_state_bytes", {"since": "0.8"}, _since("0.11.1", "0.17"), _logit_state, 36.4
    ),
    Rule("vllm", "logit_state_bytes", {"since": "0.17"}, _since("0.17"), _logit_state, 12.9),
    Rule("vllm", "fused_logit_state_bytes", {"since": "0.5"}, _since("0.17"), _logit_state, 12.9),
    Rule("vllm", "vision_peak_bytes", {"since": "0.5"}, _since("0.8"), _vision, 100 * MIB),
    Rule(
        "vllm",
        "non_torch_bytes",
        {"since": "0.5"},
        _all(_since("0.8", "0.18"), _place(ONE), _below(99, 9.0)),
        _non_torch,
        133 * MIB,
    ),
    Rule(
        "vllm",
        "non_torch_bytes",
        {"since": "0.18"},
        _all(_since("0.18"), _place(ONE), _below(99, 9.0)),
        _non_torch,
        256 * MIB,
    ),
    Rule(
        "vllm",
        "non_torch_bytes",
        {"since": "0.5", "ranks": "one", "below_capability": 9.0},
        _all(_place(ONE), _below(9.0, 8.0)),
        _non_torch,
        90 * MIB,
    ),
    Rule(
        "vllm",
        "non_torch_bytes",
        {"since": "0.5", "ranks": "one", "below_capability": 8.0},
        _all(_place(ONE), _below(8.0)),
        _non_torch,
        45 * MIB,
    ),
    Rule(
        "vllm",
        "non_torch_bytes",
        {"since": "0.5", "ranks": "stages"},
        _place(STAGES),
        _non_torch,
        72 * MIB,
    ),
    Rule(
        "vllm",
        "non_torch_bytes",
        {"since": "0.5", "ranks": "many"},
        _all(_since("0.5", "0.8"), _place(MANY)),
        _non_torch,
        1843 * MIB,
    ),
    Rule(
        "vllm",
        "non_torch_bytes",
        {"since": "0.8", "ranks": "many"},
        _all(_since("0.8", "0.18"), _place(MANY)),
        _non_torch,
        563 * MIB,
    ),
    Rule(
        "vllm",
        "non_torch_bytes",
        {"since": "0.18", "ranks": "many"},
        _all(_since("0.18"), _place(MANY), _switched(True)),
        _non_torch,
        2150 * MIB,
    ),
    Rule(
        "vllm",
        "non_torch_bytes",
        {"since": "0.5", "ranks": "many", "switched": False},
        _all(_since("0.8"), _place(MANY), _switched(False)),
        _non_torch,
        572 * MIB,
    ),
    Rule("vllm", "graphs_base_bytes", {"since": "0.5"}, _since("0.5"), lambda _: None, GRAPH_BASE),
    Rule("vllm", "graphs_layer_bytes", {"since": "0.5"}, _since("0.8"), _graph_layer, 19 * MIB),
    Rule("sglang", "loading_overhead_bytes", {"since": "0.4"}, _since("0.4"), _weights, 5 * MIB),
    Rule(
        "sglang", "gone_before_load_bytes", {"since": "0.4"}, _place(ONE), _before_load, 512 * MIB
    ),
    Rule(
        "sglang",
        "gone_before_load_bytes",
        {"since": "0.4", "ranks": "many"},
        _all(_place(MANY), _switched(True)),
        _before_load,
        1536 * MIB,
    ),
    Rule(
        "sglang",
        "gone_before_load_bytes",
        {"since": "0.4", "ranks": "many", "switched": False},
        _all(_place(MANY), _switched(False)),
        _before_load,
        690 * MIB,
    ),
    Rule(
        "sglang", "graphs_base_bytes", {"since": "0.4"}, _since("0.4"), lambda _: None, GRAPH_BASE
    ),
    Rule("sglang", "graphs_layer_bytes", {"since": "0.4"}, _since("0.4"), lambda _: None, 19 * MIB),
    Rule("trtllm", "loading_overhead_bytes", {"since": "0.8"}, _since("0.8"), _weights, 0.0),
    Rule(
        "trtllm", "gone_before_load_bytes", {"since": "0.8"}, _place(ONE), _before_load, 512 * MIB
    ),
    Rule(
        "trtllm",
        "gone_before_load_bytes",
        {"since": "0.8", "ranks": "many"},
        _place(MANY),
        _before_load,
        1536 * MIB,
    ),
    Rule("llama.cpp", "gone_before_load_bytes", {}, lambda _: True, _before_load, 512 * MIB),
    Rule("generic", "activations_bytes", {}, lambda _: False, lambda _: None, 2171 * MIB),
    Rule("generic", "non_torch_bytes", {}, lambda _: False, lambda _: None, 256 * MIB),
    Rule(
        "generic", "non_torch_bytes", {"ranks": "stages"}, lambda _: False, lambda _: None, 72 * MIB
    ),
    Rule(
        "generic", "non_torch_bytes", {"ranks": "many"}, lambda _: False, lambda _: None, 2150 * MIB
    ),
    Rule("generic", "graphs_bytes", {}, lambda _: False, lambda _: None, 922 * MIB),
)
"""Every fitted value with the starts that it comes from."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

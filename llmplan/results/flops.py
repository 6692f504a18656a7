"""How many FLOPs a token takes."""

from dataclasses import asdict, dataclass

from llmplan.analyze.explain import Explained, explained_flops
from llmplan.analyze.flops import FlopsReport, TokenFlops, flops_report
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model
from llmplan.ops.counting import as_full_square
from llmplan.results import schema
from llmplan.results.common import Said, context_tokens, context_warnings, explanations
from llmplan.units import Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class FlopsQuestion:
    """FLOPs per token of one model at one context."""

    model: str
    context: str | None = None
    full_square: bool = False
    explain: bool = False

    def ask(self) -> schema.Envelope:
        """The answer; exact counts."""
        model = load_model(self.model)
        context = context_tokens(self.context, model.context_length)
        counted = model.rewritten(as_full_square) if self.full_square else model
        rows = explained_flops(counted, context) if self.explain else ()
        inputs = {
            "model": model.identity.name,
            "context": context,
            "full_square": self.full_square,
        }
        said = Said("flops", inputs, context_warnings(model, context))
        return said.answered(flops_result(counted, flops_report(counted, context), rows))


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

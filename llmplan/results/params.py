"""How many parameters a model has."""

from dataclasses import asdict, dataclass

from llmplan.analyze.explain import Explained, explained_parameters
from llmplan.analyze.ledger import Ledger, Stored, ledger
from llmplan.analyze.parameters import parameter_counts
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model
from llmplan.results import schema
from llmplan.results.common import Said, explanations
from llmplan.units import Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamsQuestion:
    """Parameters of one model."""

    model: str
    explain: bool = False

    def ask(self) -> schema.Envelope:
        """The answer; exact."""
        model = load_model(self.model)
        rows = explained_parameters(model) if self.explain else ()
        said = Said("params", {"model": model.identity.name}, model.identity.assumptions)
        return said.answered(params_result(model, rows))


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
        ledger=published_ledger(ledger(model)),
        provenance=Provenance.EXACT,
        explain=explanations(explained),
    )


def published_ledger(counted: Ledger) -> schema.Ledger:
    """Entries and bytes one by one."""
    return schema.Ledger(
        logical=counted.logical,
        active=counted.active,
        buffers=counted.buffers,
        mtp=counted.mtp,
        vision=counted.vision,
        tied_copy=counted.tied_copy,
        padding=counted.padding,
        without_mtp=stored_bytes(counted.without_mtp),
        with_mtp=stored_bytes(counted.with_mtp),
    )


def stored_bytes(held: Stored) -> schema.StoredBytes:
    """What files hold."""
    return schema.StoredBytes(**asdict(held), total_bytes=held.total_bytes)

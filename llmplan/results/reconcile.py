"""A start-up log beside the prediction for the same start, and corrections kept from such logs."""

import datetime as dt
from dataclasses import dataclass, field

from llmplan import __version__
from llmplan.analyze.fit import Answer, Deployment, answer
from llmplan.analyze.reconcile import Row, correction_of, reconciled
from llmplan.errors import InputError, LayoutError, printable
from llmplan.results import schema
from llmplan.results.common import Said
from llmplan.results.engine_said import engine_echo, engine_warnings
from llmplan.results.gpus_said import gpu_echo, gpu_warnings
from llmplan.results.kept_corrections import (
    CorrectionFile,
    LogOrigin,
    file_of,
    folder,
    forget,
    keep,
    kept_files,
)
from llmplan.results.log_source import LogSource
from llmplan.results.log_start import Start, Typed, start_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileQuestion:
    """What a log says and what llmplan says, term by term.

    Corrections that were kept earlier are left out, so that saving twice does not add up.

    Attributes:
        log: The log.
        typed: What the log does not say.
        save: Keep what the log shows as a correction.
    """

    log: LogSource
    typed: Typed = field(default_factory=Typed)
    save: bool = False

    def ask(self) -> schema.Envelope:
        """The comparison.

        Raises:
            LlmplanError: The log is of no known engine, or does not say what has to be known.
        """
        facts = self.log.read()
        start = start_of(facts, self.typed)
        found = answer(start.question)
        best = _best(found)
        rows = reconciled(start.facts, best.serving)
        file, remarks = self._correction(start, best)
        saved = str(keep(file)) if file and self.save else None
        result = schema.ReconcileResult(
            log=self.log.name,
            lines=facts.lines,
            engine=facts.engine.value,
            version=facts.version,
            model=start.model.identity.name,
            layout=str(best.arrangement),
            outcome=facts.outcome.value,
            outcome_line=facts.outcome_line or None,
            rows=[reconcile_row(row) for row in rows],
            settings={name: _shown(value) for name, value in start.facts.settings.stated.items()},
            missing=list(facts.missing),
            correction=correction_row(file) if file else None,
            saved=saved,
        )
        inputs = {
            "log": self.log.name,
            "sha256": self.log.sha256,
            "model": start.model.identity.name,
            **start.formats.echo(start.question.states),
            **gpu_echo(start.group),
            **engine_echo(start.profile, best),
            "save": self.save,
        }
        warnings = (
            *facts.remarks,
            *start.remarks,
            *start.model.identity.assumptions,
            *gpu_warnings(start.group),
            *_engine_remarks(start, best),
            *remarks,
        )
        return Said("reconcile", inputs, tuple(dict.fromkeys(warnings))).answered(result)

    def _correction(
        self, start: Start, best: Deployment
    ) -> tuple[CorrectionFile | None, tuple[str, ...]]:
        """What --save keeps; where that is nothing, the reason, an error if it was wanted."""
        try:
            kept = correction_of(
                start.facts,
                best.serving,
                states_version=start.states_version,
                source=self.log.name,
            )
        except InputError as error:
            if self.save:
                raise InputError(f"--save: {error}") from None
            return None, (f"no correction can be kept: {error}",)
        origin = LogOrigin(
            file=self.log.name,
            sha256=self.log.sha256,
            date=dt.datetime.now(tz=dt.UTC).date(),
            model=start.model.identity.name,
            llmplan=__version__,
        )
        return file_of(kept.correction, origin), kept.remarks


def _engine_remarks(start: Start, best: Deployment) -> tuple[str, ...]:
    """What is said of an engine's answer, less the stage of its figures: each row has its own."""
    remarks = engine_warnings(start.profile, best)
    return tuple(text for text in remarks if not text.startswith("figures are those of stage"))


def _best(found: Answer) -> Deployment:
    if found.best:
        return found.best
    if found.refusals:
        raise LayoutError(found.refusals[0].reason)
    asked = found.question.wanted.options or "the layout"
    raise LayoutError(
        f"{asked}, as the log says, does not go on {found.question.group}: state --gpus."
    )


def _shown(value: object) -> object:
    return printable(value) if isinstance(value, str) else value


def reconcile_row(row: Row) -> schema.ReconcileRow:
    """One term."""
    return schema.ReconcileRow(
        term=row.term,
        log=row.log,
        line=row.line,
        rank=row.rank or None,
        predicted=row.predicted,
        delta=row.delta,
        error_frac=row.error_frac,
        note=row.note,
    )


def correction_row(file: CorrectionFile) -> schema.CorrectionRow:
    """One correction."""
    return schema.CorrectionRow(
        name=file.name,
        engine=file.engine.value,
        version=file.version,
        device=file.device,
        ranks=file.ranks.value,
        weights_bytes=file.weights_bytes,
        activations_scale=file.activations_scale,
        non_torch_bytes=file.non_torch_bytes,
        graphs_bytes=file.graphs_bytes,
        log=printable(file.log.file),
        sha256=file.log.sha256,
        date=file.log.date.isoformat(),
        model=printable(file.log.model),
        llmplan=printable(file.log.llmplan),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionsQuestion:
    """The corrections that are kept, after one was forgotten where that is asked for.

    Attributes:
        forget: Name of a correction.
    """

    forget: str | None = None

    def ask(self) -> schema.Envelope:
        """The list.

        Raises:
            LlmplanError: No such correction, or one that cannot be read.
        """
        if self.forget is not None:
            forget(self.forget)
        rows = [correction_row(file) for file in kept_files()]
        inputs = {"forget": self.forget, "folder": str(folder())}
        return Said("reconcile", inputs).answered(schema.CorrectionsResult(corrections=rows))

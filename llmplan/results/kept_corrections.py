"""Corrections that a user keeps: one YAML file each, in the personal configuration folder.

They are written by ``llmplan reconcile --save`` and may be read, edited and deleted by hand. A file
that was edited to nonsense is an error that names it, never a correction that is left out.
"""

import datetime as dt
import os
import re
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final

import platformdirs
import yaml
from pydantic import Field

from llmplan.documents import load_document
from llmplan.engines.corrections import Correction
from llmplan.engines.profile import Profile, Ranks, Strict
from llmplan.engines.settings import EngineName
from llmplan.engines.versions import shown
from llmplan.errors import DocumentError, InputError, UnknownNameError, printable
from llmplan.units import GIB
from llmplan.validation import validated

FOLDER: Final = "corrections"
MOST_FILES: Final = 1000
_MOST_BYTES: Final = 64 * GIB
_HEADER: Final = (
    "# Written by llmplan reconcile --save: measured less predicted, in bytes of each GPU.\n"
    "# Delete this file, or run llmplan reconcile --forget {name}, to undo it.\n"
)

Delta = Annotated[int, Field(ge=-_MOST_BYTES, le=_MOST_BYTES, strict=True)]
Text = Annotated[str, Field(min_length=1, max_length=300)]


class LogOrigin(Strict):
    """The log that a correction comes from.

    Attributes:
        file: Its name.
        sha256: Of its bytes, as far as they were read.
        date: Day on which it was kept.
        model: Model that was predicted.
        llmplan: Version of llmplan that predicted it.
    """

    file: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    date: dt.date
    model: Text
    llmplan: Annotated[str, Field(max_length=60)]


class CorrectionFile(Strict):
    """``corrections/NAME.yaml``; figures that the log does not print are left out.

    Attributes:
        engine: Engine.
        version: Version line, as in 0.19.
        device: Catalogue name of the GPU.
        ranks: one, stages (pipeline only) or many.
        log: Where the figures come from.
        weights_bytes: What loading adds beyond llmplan's figure.
        activations_scale: Measured activations over predicted ones.
        non_torch_bytes: Libraries and communication buffers beyond llmplan's figure.
        graphs_bytes: Captured graphs beyond llmplan's figure.
    """

    engine: EngineName
    version: Annotated[str, Field(pattern=r"^\d{1,4}\.\d{1,4}$")]
    device: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,79}$")]
    ranks: Ranks
    log: LogOrigin
    weights_bytes: Delta | None = None
    activations_scale: Annotated[float, Field(ge=0.05, le=20)] | None = None
    non_torch_bytes: Delta | None = None
    graphs_bytes: Delta | None = None

    @property
    def name(self) -> str:
        """The name that its key gives it; a later log of the same kind takes its place."""
        return f"{self.engine.value}-{self.version}-{self.device}-{self.ranks.value}"

    @property
    def correction(self) -> Correction:
        """As engines apply it."""
        major, minor = self.version.split(".")
        return Correction(
            engine=self.engine,
            version=(int(major), int(minor)),
            device=self.device,
            ranks=self.ranks,
            source=f"{printable(self.log.file)} of {self.log.date}",
            weights_bytes=self.weights_bytes,
            activations_scale=self.activations_scale,
            non_torch_bytes=self.non_torch_bytes,
            graphs_bytes=self.graphs_bytes,
        )

    @property
    def is_empty(self) -> bool:
        """Whether it corrects nothing."""
        return not any(
            (self.weights_bytes, self.activations_scale, self.non_torch_bytes, self.graphs_bytes)
        )


def file_of(correction: Correction, log: LogOrigin) -> CorrectionFile:
    """The file of a correction."""
    return CorrectionFile(
        engine=correction.engine,
        version=shown(correction.version),
        device=correction.device,
        ranks=correction.ranks,
        log=log,
        weights_bytes=correction.weights_bytes,
        activations_scale=correction.activations_scale,
        non_torch_bytes=correction.non_torch_bytes,
        graphs_bytes=correction.graphs_bytes,
    )


def folder() -> Path:
    """Where corrections are kept."""
    return platformdirs.user_config_path("llmplan") / FOLDER


def kept_files() -> tuple[CorrectionFile, ...]:
    """All corrections, by name.

    Raises:
        DocumentError: One cannot be read, or says what no log could.
    """
    try:
        paths = [(path, path.stat()) for path in sorted(folder().glob("*.yaml"))]
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", str(folder())) from None
    if len(paths) > MOST_FILES:
        raise DocumentError(f"holds more than {MOST_FILES:,} corrections.", str(folder()))
    return tuple(_read(path, state.st_mtime_ns, state.st_size) for path, state in paths)


def kept_corrections(engine: EngineName) -> tuple[Correction, ...]:
    """The corrections of an engine.

    Raises:
        DocumentError: As ``kept_files``.
    """
    if engine is EngineName.GENERIC:
        return ()
    return tuple(file.correction for file in kept_files() if file.engine is engine)


def corrections_said(
    corrections: Iterable[Correction], profile: Profile, device: str
) -> tuple[str, ...]:
    """Which layouts are corrected on this device, and by what."""
    return tuple(
        f"layouts of {_RANKS[each.ranks]} are corrected by local log {each.source}."
        for each in corrections
        if each.is_for(profile, each.ranks, device)
    )


_RANKS: Final = {
    Ranks.ONE: "a single GPU",
    Ranks.STAGES: "pipeline stages only",
    Ranks.MANY: "several ranks that split layers",
}


@lru_cache(maxsize=MOST_FILES)
def _read(path: Path, _changed_ns: int, _size_bytes: int) -> CorrectionFile:
    """A file, parsed once as long as it is not changed: a list of the catalogue asks often."""
    document = load_document(path)
    file = validated(document, CorrectionFile)
    if file.ranks is Ranks.ANY or file.engine is EngineName.GENERIC:
        raise document.error("a correction is for one engine and one kind of ranks.", ("engine",))
    if file.is_empty:
        raise document.error("corrects nothing: delete the file.", ())
    if file.name != path.stem:
        raise document.error(
            f"is for {file.name}, so the file must have that name: save the log anew.", ("engine",)
        )
    return file


def keep(file: CorrectionFile) -> Path:
    """Write a correction, whole or not at all, in place of an earlier one of the same kind.

    Raises:
        InputError: It corrects nothing, or the folder cannot be written to.
    """
    if file.is_empty:
        raise InputError("--save: the log gives nothing that llmplan could be corrected by.")
    path = folder() / f"{file.name}.yaml"
    said = file.model_dump(mode="json", exclude_none=True)
    text = yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=100)
    draft = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(_HEADER.format(name=file.name) + text)
        Path(draft).replace(path)
    except OSError as error:
        if draft:
            Path(draft).unlink(missing_ok=True)
        raise InputError(f"--save: {path} cannot be written ({error.strerror}).") from None
    return path


def forget(name: str) -> Path:
    """Delete a correction, readable or not.

    Raises:
        UnknownNameError: There is none of that name.
        InputError: It cannot be deleted.
    """
    names = [path.stem for path in sorted(folder().glob("*.yaml"))]
    if not re.fullmatch(r"[\w.-]{1,200}", name) or name not in names:
        raise UnknownNameError(
            "correction", name, names, "`llmplan reconcile --list` shows those that are kept."
        )
    path = folder() / f"{name}.yaml"
    try:
        path.unlink()
    except OSError as error:
        raise InputError(f"{path} cannot be deleted ({error.strerror}).") from None
    return path

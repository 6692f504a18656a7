"""Where catalogue files are looked for: a user's own folders, the shipped ones, installed packages.

A user's file wins over a shipped one of the same name, and the answer says so. Packages add names
(entry points of the group ``llmplan.catalogs``, each naming a package with the same folders) and
never replace one.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import platformdirs

from llmplan.documents import shipped_folder
from llmplan.errors import InputError, printable

VARIABLE: Final = "LLMPLAN_CATALOG"
"""Folders that hold ``specs`` or ``hardware``, separated as in PATH."""
GROUP: Final = "llmplan.catalogs"


def own_folders() -> tuple[Path, ...]:
    """A user's catalogue folders, nearest first: the variable's, then the personal one."""
    named = [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return (*named, platformdirs.user_data_path("llmplan"))


def use_folders(folders: list[Path]) -> None:
    """Look into ``folders`` before all others, in this process and those it starts.

    Raises:
        InputError: One is no folder.
    """
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"--catalog {printable(str(folder))} is no folder.")
    given = [str(folder.resolve()) for folder in folders]
    os.environ[VARIABLE] = os.pathsep.join([*given, os.environ.get(VARIABLE, "")])


def package_folders() -> tuple[Path, ...]:
    """Folders of installed packages that bring catalogue files; none of their code is run.

    A package that is named with a dot has its parents imported, as Python demands.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415 (slow, and rarely needed)

    return tuple(
        location
        for point in sorted(entry_points(group=GROUP))
        for location in _folders_of(point.module)
    )


def _folders_of(module: str) -> tuple[Path, ...]:
    """Where a package lies; nothing where it was taken away and its entry point was not."""
    try:
        spec = find_spec(module)
    except ImportError:
        return ()
    return tuple(map(Path, (spec and spec.submodule_search_locations) or ()))


def catalogue_file(kind: str, stem: str) -> Path | None:
    """The file of one name, a user's own before the shipped one; packages are not looked at.

    Args:
        kind: ``specs``, ``hardware/devices`` or ``hardware/nodes``.
        stem: Name of the file without its suffix.
    """
    roots = (*(folder / kind for folder in own_folders()), _shipped(kind))
    return next(
        (root / f"{stem}.yaml" for root in roots if (root / f"{stem}.yaml").is_file()), None
    )


def catalogue_files(kind: str) -> dict[str, Path]:
    """Every file of a kind by name, sorted; own before shipped before packages."""
    roots = (*(folder / kind for folder in own_folders()), _shipped(kind))
    roots += tuple(folder / kind for folder in package_folders())
    files: dict[str, Path] = {}
    for root in roots:
        for path in root.glob("*.yaml") if root.is_dir() else ():
            files.setdefault(path.stem, path)
    return dict(sorted(files.items()))


def is_shipped(path: Path, kind: str) -> bool:
    """Whether a file is llmplan's own."""
    return path.parent == _shipped(kind)


def shown_path(path: Path, kind: str) -> str:
    """A file as messages name it: shipped ones from the root of the project."""
    return f"{kind}/{path.name}" if is_shipped(path, kind) else str(path)


def _shipped(kind: str) -> Path:
    root, _, rest = kind.partition("/")
    return shipped_folder(root) / rest if rest else shipped_folder(root)

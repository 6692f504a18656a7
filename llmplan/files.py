"""Files that are written whole or not at all."""

import tempfile
from pathlib import Path

from llmplan.errors import InputError


def write_atomically(path: Path, text: str) -> None:
    """Write a file whole or not at all; a pipe or a device is written to as it is.

    Raises:
        InputError: The folder does not exist or cannot be written to.
    """
    draft = None
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        target = path.resolve()
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            draft = Path(file.name)
            file.write(text)
        draft.chmod(0o644)
        draft.replace(target)
    except OSError as error:
        if draft:
            draft.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written ({error.strerror}).") from None

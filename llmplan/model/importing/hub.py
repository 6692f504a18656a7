"""Configs and tensor headers from the Hugging Face Hub; the only place that uses the network."""

import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from llmplan.documents import Document
from llmplan.errors import DocumentError, InputError, MissingPartError, printable
from llmplan.model.importing.config import body_of_config, finished_spec
from llmplan.model.importing.json_file import MAX_BYTES, load_json
from llmplan.model.importing.stored import spec_of_tensors
from llmplan.model.spec import ModelSpec
from llmplan.model.stored.safetensors_file import (
    MAX_INDEX_BYTES,
    MAX_SHARDS,
    MAX_TENSORS,
    tensor_of_entry,
)
from llmplan.model.stored.tensors import StoredTensor

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB_ID: Final = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_INDEX: Final = "model.safetensors.index.json"
_SINGLE: Final = "model.safetensors"
_WITHOUT: Final = "Formats are those of the config: the repository has no safetensors headers."
_INSTEAD: Final = (
    "Download the config.json, and give its path instead; every other command works offline."
)


def is_hub_id(text: str) -> bool:
    """Whether ``text`` is ORG/NAME and no file."""
    return HUB_ID.fullmatch(text) is not None and not Path(text).exists()


def import_from_hub(repository: str) -> tuple[ModelSpec, Document]:
    """The spec of a repository: its config, with formats from its tensor headers if it has any.

    Raises:
        MissingPartError: huggingface_hub is not installed.
        InputError: The hub cannot be reached, or has no such file.
        DocumentError: The config cannot be read, or holds what is not known.
    """
    if find_spec("huggingface_hub") is None:
        raise MissingPartError(
            f"'{repository}' is read through huggingface_hub, which is not installed: "
            "pip install 'llmplan[hub]'."
        )
    from huggingface_hub import HfApi  # noqa: PLC0415 (an extra, and slow to load)
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415 (as above)

    disable_progress_bars()
    api, name = HfApi(library_name="llmplan"), f"{repository}/config.json"
    path, revision = _downloaded_config(api, repository)
    data = {**load_json(path), "_name_or_path": repository}
    body = body_of_config(data, name)
    source = {"config": name, "revision": revision, "date": body["source"]["date"]}
    body = {**body, "source": {key: value for key, value in source.items() if value}}
    tensors = _tensors(api, repository)
    if tensors is None:
        return finished_spec({**body, "notes": [*body.get("notes", []), _WITHOUT]}, name)
    return spec_of_tensors(body, name, tensors)


def _downloaded_config(api: "HfApi", repository: str) -> tuple[Path, str | None]:
    """The cached config, and the commit that it is of."""
    about = _about(api, repository, "config.json", MAX_BYTES)
    if about is None:
        raise InputError(f"'{repository}' has no config.json on the hub, or needs a login.")
    try:
        path = api.hf_hub_download(repository, "config.json", revision=about.commit_hash)
    except Exception as error:  # noqa: BLE001 (the library raises errors of its HTTP clients)
        raise _failed(repository, "config.json", error) from None
    return Path(path), about.commit_hash


def _about(api: "HfApi", repository: str, file: str, most_bytes: int) -> Any:
    """What the hub says of a file, None where there is none; refuses larger ones."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url  # noqa: PLC0415 (an extra)
    from huggingface_hub.errors import EntryNotFoundError  # noqa: PLC0415 (as above)

    try:
        url = hf_hub_url(repository, file, endpoint=api.endpoint)
        about = get_hf_file_metadata(url)
    except EntryNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001 (the library raises errors of its HTTP clients)
        raise _failed(repository, file, error) from None
    if about.size is None or about.size > most_bytes:
        raise InputError(f"{file} of '{repository}' is larger than {most_bytes:,} bytes; refused.")
    return about


def _tensors(api: "HfApi", repository: str) -> tuple[StoredTensor, ...] | None:
    """The tensors in the headers of all shards; None for a repository without safetensors."""
    from huggingface_hub.errors import NotASafetensorsRepoError  # noqa: PLC0415 (an extra)

    _about(api, repository, _INDEX, MAX_INDEX_BYTES)
    try:
        found = api.get_safetensors_metadata(repository)
    except NotASafetensorsRepoError:
        return None
    except Exception as error:  # noqa: BLE001 (the library raises errors of its HTTP clients)
        raise _failed(repository, "the header of its tensors", error) from None
    files = found.files_metadata
    if len(files) > MAX_SHARDS or sum(len(file.tensors) for file in files.values()) > MAX_TENSORS:
        raise DocumentError("lists more tensors than are read.", repository)
    return tuple(_stored(files.values(), repository))


def _stored(files: Iterable[Any], repository: str) -> Iterator[StoredTensor]:
    for file in files:
        for name, tensor in file.tensors.items():
            entry = {"dtype": tensor.dtype, "shape": list(tensor.shape)}
            entry["data_offsets"] = list(tensor.data_offsets)
            yield tensor_of_entry(name, entry, 2**53, repository)


def _failed(repository: str, what: str, error: Exception) -> InputError:
    """The error for what the hub did not give."""
    lines = str(error).strip().splitlines() or [""]
    why = printable(f"{type(error).__name__}: {lines[0]}", most=200)
    return InputError(f"{what} of '{repository}' could not be fetched ({why}). {_INSTEAD}")

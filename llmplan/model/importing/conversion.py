"""What a quantisation method converts, and which settings change no size."""

from dataclasses import dataclass
from typing import Final, Literal

from llmplan.model.importing.name_lists import Syntax
from llmplan.model.importing.view import ConfigView

GROUP_SIZES: Final = (16, 32, 64, 128, 256)
LISTS: Final = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules")
"""Keys under which methods list what they leave out."""
NO_SIZE: Final = {
    key: reason
    for reason, keys in {
        "how activations are scaled while running; a stored scale is 4 bytes a matrix": """
            activation_scheme activation_scale_ub""",
        "which software wrote the file, and when": """
            version producer quantization_status meta quantizer dataset tokenizer
            model_name_or_path model_file_base_name quantized_by global_compression_ratio""",
        "how values were searched for": """
            damp_percent damp_auto_increment true_sequential static_groups mse desc_act
            batch_size cache_block_outputs model_seqlen max_input_length pad_token_id hyb_act""",
        "which kernels read it": """
            backend use_exllama exllama_config fuse_max_seq_len do_fuse modules_to_fuse
            disable_exllama use_cuda_fp16 is_marlin_format""",
    }.items()
    for key in keys.split()
}
"""Settings that change no size, with the reason."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """One format and what is stored in it.

    Attributes:
        format: Name of the format.
        key: The setting that lists what is left out, for messages.
        left_out: Module names that are not converted.
        syntax: How that list is read.
        head: Whether an output head that is not named is converted; readers may disagree.
        targets: Modules that are converted, where not all are.
        only: Roles that the method can convert, where not all can be.
        reaches_vision: Whether the method also converts a vision tower that is not left out.
        notes: What a reader should know.
    """

    format: str
    key: str = "modules_to_not_convert"
    left_out: tuple[str, ...] = ()
    syntax: Syntax = Syntax.MODULES
    head: Literal["kept", "converted", "unclear"] = "kept"
    targets: tuple[str, ...] | None = None
    only: tuple[str, ...] | None = None
    reaches_vision: bool = True
    notes: tuple[str, ...] = ()


def listed(
    settings: ConfigView,
    name: str,
    *,
    head: Literal["kept", "converted", "unclear"] = "kept",
    only: tuple[str, ...] | None = None,
    reaches_vision: bool = True,
) -> Conversion:
    """A conversion with the exceptions that the settings list under any of the usual keys."""
    settings.ignore(*NO_SIZE)
    stated = [key for key in LISTS if settings.has(key)]
    if len(stated) > 1:
        raise settings.refusal(stated[1], f"stands beside {stated[0]}")
    key = stated[0] if stated else LISTS[0]
    names = tuple(settings.texts(key, []))
    return Conversion(name, key, names, head=head, only=only, reaches_vision=reaches_vision)

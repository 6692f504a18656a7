"""FLOPs of one image, operator by operator, with formula, values and spec keys."""

from llmplan.analyze.explain import Explained, flops_formula
from llmplan.analyze.image import Image, running
from llmplan.analyze.keys import KeyFinder, key_finders
from llmplan.model.compiled import Diffusion, Model, Part
from llmplan.ops.attention import Attention, Mask
from llmplan.ops.base import Operator, Step
from llmplan.ops.conv2d import Convolution2d
from llmplan.ops.linear import Linear


def explained_image(model: Model, diffusion: Diffusion, image: Image) -> tuple[Explained, ...]:
    """Every operator with matmul, attention or convolution FLOPs, in one run of its part."""
    finders = key_finders(model)
    return tuple(
        _explained(component.part, operator, repeats, step, finders[operator])
        for component in model.components
        for operator, repeats, step in running(component, diffusion, image)
        if flops_formula(operator)
    )


def _explained(
    part: Part, operator: Operator, repeats: int, step: Step, keys: KeyFinder
) -> Explained:
    """Tokens are those of the operator's stream; latent pixels in the autoencoder."""
    formula = f"{_over_tokens(operator)} x tokens"
    total = float(operator.cost(step).model_flops)
    return Explained(
        f"{part.value}.{operator.name}",
        formula,
        keys.substituted(_with_widths(operator, formula, keys)).replace(
            "tokens", f"{int(step.tokens):,}"
        ),
        f"{total:,.0f} x {repeats} = {total * repeats:,.0f} FLOPs",
        keys.sources(formula) or keys.document.path,
    )


def _over_tokens(operator: Operator) -> str:
    """The formula of one token, with the keys that it attends to on average."""
    is_causal = isinstance(operator, Attention) and operator.mask is Mask.CAUSAL
    seen = "(tokens + 1) / 2" if is_causal else "tokens"
    return flops_formula(operator).replace("keys", seen)


def _with_widths(operator: Operator, formula: str, keys: KeyFinder) -> str:
    """The formula with the operator's own widths where the spec has no single number for them."""
    match operator:
        case Attention(num_attention_heads=heads, head_dim=width):
            widths = (("num_attention_heads", heads), ("head_dim", width))
        case (
            Linear(in_features=into, out_features=out)
            | Convolution2d(in_channels=into, out_channels=out)
        ):
            names = [f"({label})" for label in operator.labels]
            widths = ((names[1], into), (names[0], out))
        case _:
            return formula
    for name, size in widths:
        if keys.substituted(name) == name:
            formula = formula.replace(name, f"{size:,}", 1)
    return formula

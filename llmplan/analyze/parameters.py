"""Counting parameters: totals, active ones, buffers, and how they fall to roles."""

from dataclasses import dataclass

from llmplan.model.compiled import Component, Model, Part
from llmplan.ops.embedding import Embedding
from llmplan.ops.precision import Role


@dataclass(frozen=True, slots=True)
class RoleCount:
    """Parameters of one role, or of one component outside the decoder.

    Attributes:
        name: Role or component.
        total: Parameters.
        active: Of these, used by one token.
        stored_bytes: As stored, scales included.
    """

    name: str
    total: int
    active: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """All counts of one model; exact.

    Attributes:
        total: Parameters of the published model: ties once, vision in, MTP and buffers out.
        active: Parameters of the text model one token uses, without an untied input table.
        buffers: Stored entries that are no parameters.
        mtp: MTP modules, their buffers included.
        vision: Vision tower and projector, part of total.
        embedding: Input table.
        roles: The same by role, then the components outside the decoder.
    """

    total: int
    active: int
    buffers: int
    mtp: int
    vision: int
    embedding: int
    roles: tuple[RoleCount, ...]


def parameter_counts(model: Model) -> ParameterCounts:
    """Counts as sums over operators."""
    published = model.served()
    mtp = model.parts(Part.MTP)
    return ParameterCounts(
        total=sum(o.parameters * n for o, n in published.counted()),
        active=sum(o.active_parameters * n for o, n in model.decoder.counted),
        buffers=sum(o.buffers * n for o, n in published.counted()),
        mtp=sum((o.parameters + o.buffers) * n for c in mtp for o, n in c.counted),
        vision=sum(
            o.parameters * n for c in model.parts(Part.VISION, Part.PROJECTOR) for o, n in c.counted
        ),
        embedding=sum(
            o.parameters * n for o, n in model.decoder.counted if isinstance(o, Embedding)
        ),
        roles=_role_counts(model),
    )


def _role_counts(model: Model) -> tuple[RoleCount, ...]:
    decoder = [] if model.diffusion else _decoder_role_counts(model.decoder)
    whole = model.components if model.diffusion else model.components[1:]
    outside = [_component_count(component) for component in whole]
    return tuple(count for count in (*decoder, *outside) if count.total)


def _decoder_role_counts(decoder: Component) -> list[RoleCount]:
    """Roles in their own order, buffers left out; every operator is asked once."""
    sums = {role: [0, 0, 0] for role in Role if role is not Role.BUFFER}
    for operator, repeats in decoder.counted:
        for weight in operator.weights:
            if weight.role in sums:
                total = sums[weight.role]
                total[0] += weight.elements * repeats
                total[1] += weight.active_elements * repeats
                total[2] += operator.weight_bytes(weight) * repeats
    return [RoleCount(role.value, *total) for role, total in sums.items()]


def _component_count(component: Component) -> RoleCount:
    buffers = sum(o.buffers * n for o, n in component.counted if component.part is Part.MTP)
    parameters = sum(o.parameters * n for o, n in component.counted)
    return RoleCount(
        component.part.value,
        parameters + buffers,
        parameters if component.part is Part.TRANSFORMER else 0,
        sum(o.weights_bytes * n for o, n in component.counted),
    )

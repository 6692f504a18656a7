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
    decoder = [_role_count(model.decoder, role) for role in Role if role is not Role.BUFFER]
    outside = [_component_count(component) for component in model.components[1:]]
    return tuple(count for count in (*decoder, *outside) if count.total)


def _role_count(component: Component, role: Role) -> RoleCount:
    weights = [
        (weight, operator, repeats)
        for operator, repeats in component.counted
        for weight in operator.weights
        if weight.role is role
    ]
    return RoleCount(
        role.value,
        sum(w.elements * n for w, _, n in weights),
        sum(w.active_elements * n for w, _, n in weights),
        sum(o.weight_bytes(w) * n for w, o, n in weights),
    )


def _component_count(component: Component) -> RoleCount:
    buffers = sum(o.buffers * n for o, n in component.counted if component.part is Part.MTP)
    return RoleCount(
        component.part.value,
        sum(o.parameters * n for o, n in component.counted) + buffers,
        0,
        sum(o.weights_bytes * n for o, n in component.counted),
    )

"""The operations of a list one by one: policies taken apart, shadows put beneath their clouds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from geoaug.augment.operations.base import GeometricOperation, RadiometricOperation
from geoaug.augment.operations.policies import Policy
from geoaug.augment.operations.stock import Opaque, StockAffine

Step = GeometricOperation | StockAffine | RadiometricOperation | Opaque | Policy


@dataclass(frozen=True, slots=True)
class Member:
    """One operation where it takes effect.

    Attributes:
        step: the operation; a policy itself stands behind its operations and does nothing.
        index: in the list of steps.
        policy: it belongs to, or None.
        place: among the policy's operations.
        leader: position of the member whose parameters it shares, or None.
    """

    step: Step
    index: int
    policy: Policy | None = None
    place: int = 0
    leader: int | None = None


def members_of(steps: Sequence[Step]) -> list[Member]:
    """The members in the order in which they take effect."""
    members: list[Member] = []
    for index, step in enumerate(steps):
        if isinstance(step, Policy):
            members += [Member(each, index, step, place) for place, each in enumerate(step.members)]  # type: ignore[arg-type]
        members.append(Member(step, index))
    for member in [each for each in members if each.policy is None]:
        follows = getattr(member.step, "follows", None)
        leaders = [each for each in members if each.policy is None and type(each.step).__name__ == follows]
        if leaders and members.index(member) > members.index(leaders[0]):
            # What lies beneath comes first.
            members.remove(member)
            members.insert(members.index(leaders[0]), member)
    return [
        replace(member, leader=_leader_of(member, members)) if member.policy is None else member for member in members
    ]


def _leader_of(member: Member, members: Sequence[Member]) -> int | None:
    follows = getattr(member.step, "follows", None)
    if follows is None:
        return None
    found = (p for p, each in enumerate(members) if each.policy is None and type(each.step).__name__ == follows)
    return next(found, None)

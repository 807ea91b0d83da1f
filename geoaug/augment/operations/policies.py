"""Policies: which operations a sample gets, and how strongly, drawn anew for each sample.

Every operation has one scale of strength, on which 0 does nothing and 1 is the edge of its realistic range, so a
policy needs no search: two numbers (RandAugment; Cubuk, Zoph, Shlens and Le, 2020, CVPR Workshops) or none
(TrivialAugment; Mueller and Hutter, 2021, ICCV).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geoaug.augment.operations.base import GeometricOperation, Operation, RadiometricOperation
from geoaug.augment.registry import OperationError, build_operation, operation_name
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import Draws

Domain = Literal["optical", "sar"]

# Operations with the arguments that make strength 1 the edge of what is realistic, for either kind of image.
# Symmetries are left to the list around the policy: they have no strength, and cost nothing to apply always.
_GEOMETRY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("RandomRotation", {"degrees": 45.0}),
    ("RandomAffine", {"scale": (0.75, 1.33)}),
    ("RandomAffine", {"shear": 10.0}),
)
_POOLS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "optical": (
        *_GEOMETRY,
        ("RandomIllumination", {}),
        ("RandomSunElevation", {}),
        ("RandomHaze", {}),
        ("RandomCloudShadow", {}),
        # A policy knows no task: the class of a chip under thick cloud is nobody's to tell.
        ("RandomCloud", {"thickness": (0.5, 3.0)}),
        ("RandomCalibration", {}),
        ("RandomBandShift", {}),
        ("RandomPointSpread", {}),
        ("RandomSensorNoise", {}),
        ("RandomStriping", {}),
    ),
    "sar": (*_GEOMETRY, ("RandomIncidenceAngle", {}), ("RandomPointSpread", {}), ("RandomSpeckle", {})),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of a policy's operations apply to each sample, and at what strength."""

    applied: Bool[Tensor, "b n"]
    strength: Float[Tensor, "b n"]


class Policy(Operation, nn.Module):
    """A pool of operations of which each sample gets some; stands in the list of `Compose` like an operation."""

    def __init__(self, operations: Sequence[Any] | None, domain: Domain) -> None:
        super().__init__()
        if domain not in _POOLS:
            raise ConfigurationError(f"domain={domain!r} is not 'optical' or 'sar'", argument="domain")
        pool = [_built(each) for each in (_POOLS[domain] if operations is None else operations)]
        if not pool:
            raise ConfigurationError("operations= is empty; name some, or leave it out", argument="operations")
        for operation in pool:
            if not isinstance(operation, GeometricOperation | RadiometricOperation):
                raise ConfigurationError(
                    f"{type(operation).__name__} has no scale of strength; a policy chooses among geoaug's own "
                    "operations, and others on its base classes",
                    argument="operations",
                )
            operation.gated = True
        self.domain: Domain = domain
        # As a recipe writes them, which has no words for modules.
        written = operations is not None and not any(isinstance(each, nn.Module) for each in operations)
        self._given = [_named(each)[1] for each in operations or ()] if written else None
        self.operations = nn.ModuleList(pool)

    @property
    def members(self) -> list[nn.Module]:
        """The operations, in the order in which they would be applied."""
        return list(self.operations)

    @abstractmethod
    def choose(self, draws: Draws) -> Choice:
        """Operations and strengths of every sample."""

    def arguments(self) -> dict[str, Any]:
        """The constructor arguments that would build this policy again, for recipes and provenance."""
        if self._given is None:
            return {"domain": self.domain}
        names = [operation_name(type(operation)) for operation in self.operations]
        listed = [{name: given} if given else name for name, given in zip(names, self._given, strict=True)]
        return {"domain": self.domain, "operations": listed}


class RandAugment(Policy):
    """`count` different operations for each sample, all at one strength.

    They apply in the order of the pool, which is that of nature (ground, air, optics, detector), whichever are drawn.

    Args:
        count: operations for each sample.
        strength: of all of them; 1 is the edge of what is realistic.
        operations: names, names with arguments (`{"RandomHaze": {"aod": (0, 0.4)}}`), or operations themselves; their
            own ranges are then strength 1. None: a pool for the domain.
        domain: "optical" or "sar".
    """

    def __init__(
        self,
        count: int = 2,
        strength: float = 0.5,
        operations: Sequence[Any] | None = None,
        domain: Domain = "optical",
    ) -> None:
        super().__init__(operations, domain)
        if not isinstance(count, int) or not 1 <= count <= len(self.operations):
            raise ConfigurationError(
                f"count={count} is a number of operations of 1 to {len(self.operations)}", argument="count"
            )
        if not 0 <= strength <= 10:
            raise ConfigurationError(f"strength={strength} is a factor within [0, 10]", argument="strength")
        self.count, self.strength = count, float(strength)

    def choose(self, draws: Draws) -> Choice:
        rank = draws.uniforms(len(self.operations)).argsort(dim=1).argsort(dim=1)
        return Choice(rank < self.count, torch.full_like(rank, self.strength, dtype=torch.float64))

    def arguments(self) -> dict[str, Any]:
        return {"count": self.count, "strength": self.strength, **super().arguments()}


class TrivialAugment(Policy):
    """One operation for each sample, at a strength of its own between 0 and `strength`.

    Args:
        strength: the greatest; 1 is the edge of what is realistic.
        operations: names, names with arguments (`{"RandomHaze": {"aod": (0, 0.4)}}`), or operations themselves; their
            own ranges are then strength 1. None: a pool for the domain.
        domain: "optical" or "sar".
    """

    def __init__(
        self,
        strength: float = 1.0,
        operations: Sequence[Any] | None = None,
        domain: Domain = "optical",
    ) -> None:
        super().__init__(operations, domain)
        if not 0 <= strength <= 10:
            raise ConfigurationError(f"strength={strength} is a factor within [0, 10]", argument="strength")
        self.strength = float(strength)

    def choose(self, draws: Draws) -> Choice:
        count = len(self.operations)
        chosen = draws.integer(count)
        applied = chosen[:, None] == torch.arange(count, device=chosen.device)
        return Choice(applied, draws.uniform(0.0, self.strength)[:, None].expand(-1, count))

    def arguments(self) -> dict[str, Any]:
        return {"strength": self.strength, **super().arguments()}


Named = str | tuple[str, dict[str, Any]] | Mapping[str, dict[str, Any] | None]


def _built(operation: nn.Module | Named) -> nn.Module:
    """An operation from itself, its name, or its name with arguments, as a pair or as recipes write it."""
    if isinstance(operation, nn.Module):
        return operation
    try:
        return build_operation(*_named(operation))
    except OperationError as error:
        raise ConfigurationError(str(error), argument="operations") from None


def _named(operation: Named) -> tuple[str, dict[str, Any]]:
    """The name of an operation and its arguments."""
    if isinstance(operation, str):
        return operation, {}
    if isinstance(operation, tuple):
        return operation
    if len(operation) != 1:
        raise ConfigurationError(
            f"operations=: one operation to an entry, not {len(operation)}: {', '.join(operation)}",
            argument="operations",
        )
    [(name, arguments)] = operation.items()
    return name, arguments or {}

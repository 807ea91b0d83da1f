"""Making a plan: a list of operations is taken apart, drawn, and composed stage by stage, in each the geometry first.

Policies are taken apart into their operations, and shadows put beneath their clouds. An opaque operation needs the
pixels as they are, so it ends a stage and begins the next. What a plan holds is in `planning.plan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geoaug.augment.kernels.warp import most_places
from geoaug.augment.operations.base import (
    GeometricOperation,
    RadiometricOperation,
    RegistrationOperation,
    TileShape,
)
from geoaug.augment.operations.policies import Choice, Policy
from geoaug.augment.operations.stock import Opaque, StockAffine
from geoaug.augment.planning import matrices
from geoaug.augment.planning.band_grids import BandGrids, BandResampling, band_grids
from geoaug.augment.planning.cover import Cover, Mirrored, Rectangles, whole, zoomed
from geoaug.augment.planning.matrices import Matrices, Size
from geoaug.augment.planning.plan import Drawn, FusedStage, OpaqueStage, Params, Plan, Stage
from geoaug.augment.planning.segments import OperationSegment, folded
from geoaug.augment.registry import operation_name
from geoaug.packages import package_of
from geoaug.rng.draws import Draws, split_keys
from geoaug.sensors import Sensor

Fit = Literal["crop", "resize"]
Step = GeometricOperation | StockAffine | RadiometricOperation | Opaque | Policy


@dataclass(frozen=True, slots=True)
class Member:
    """One operation where it takes effect.

    Attributes:
        step: the operation; a policy itself stands behind its operations and does nothing.
        index: in the list of steps.
        policy: it belongs to, or None.
        number: among the policy's operations.
        leader: position of the member whose parameters it shares, or None.
    """

    step: Step
    index: int
    policy: Policy | None = None
    number: int = 0
    leader: int | None = None


def members_of(steps: Sequence[Step]) -> list[Member]:
    """The members in the order in which they take effect."""
    members: list[Member] = []
    for index, step in enumerate(steps):
        if isinstance(step, Policy):
            members += [Member(each, index, step, number) for number, each in enumerate(step.members)]  # type: ignore[arg-type]
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


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Sun, view and pixel size of the samples of a batch, where they are known; in the frame of the input image.

    Attributes:
        sun_elevation: degrees over the horizon.
        sun_azimuth: degrees clockwise from the top of the image.
        gsd_m: metres to a pixel.
        view_zenith: degrees between the vertical and the way to the sensor.
        relative_azimuth: degrees between the azimuths of sun and sensor.
        geotransform: of the pixels.
        band_resampling: by which bands that are coarser than the pixels came to them, for all samples or for each.
    """

    sun_elevation: Float[Tensor, " b"] | None = None
    sun_azimuth: Float[Tensor, " b"] | None = None
    gsd_m: Float[Tensor, " b"] | None = None
    view_zenith: Float[Tensor, " b"] | None = None
    relative_azimuth: Float[Tensor, " b"] | None = None
    geotransform: Float[Tensor, "b 6"] | None = None
    band_resampling: BandResampling | tuple[BandResampling, ...] = "cubic"


@dataclass(frozen=True, slots=True)
class TileSpec:
    """The tiles a plan is made for: what is known of a batch without its pixels.

    Attributes:
        bands: per date.
        dates: 1 unless the batch is a time series.
        tile: size of the tile, context excluded.
        context: pixels around the tile on each side.
    """

    bands: int
    dates: int
    tile: Size
    context: int


@dataclass(slots=True)
class OperationList:
    """A list of operations taken apart, and what earlier plans of it have shown; that saves work, and changes no plan.

    Attributes:
        members: of the list.
        words: random words that each member takes: for geometry, and for the radiometry of every date; None until a
            plan has shown it.
    """

    members: Sequence[Member]
    words: tuple[Sequence[int] | None, Sequence[int] | None] = (None, None)

    @staticmethod
    def of(steps: Sequence[Step]) -> OperationList:
        """The list of which no plan has been made."""
        return OperationList(members_of(steps))


def make_plan(
    operations: OperationList,
    key: Int[Tensor, " b"],
    spec: TileSpec,
    *,
    sensor: Sensor | None,
    size: Size | None,
    fit: Fit,
    acquisition: Acquisition | None = None,
    cover: Cover = "leave",
    inside: Rectangles | None = None,
    margin: int = 0,
) -> Plan:
    """Draw and compose a plan.

    Args:
        operations: taken apart.
        key: of the samples.
        spec: of the tiles.
        sensor: whose bands the image has.
        size: of the output; None: whatever the operations leave.
        fit: how the tile comes to `size`: a centred crop (or pad), or a resize.
        acquisition: what is known of the samples besides.
        cover: what becomes of output pixels beyond the valid input.
        inside: where output may be taken from, in the input with its context; None: everywhere.
        margin: pixels by which the input is continued on each side by its mirror image.
    """
    source = Size(spec.tile.height + 2 * spec.context, spec.tile.width + 2 * spec.context)
    within = whole(len(key), source, key.device) if inside is None else inside
    planner = _Planner(key, spec, sensor, acquisition or Acquisition(), operations, within if cover == "zoom" else None)
    if cover != "reflect" or (margin == 0 and inside is None):
        return planner.plan(size, fit)
    return planner.plan(size, fit, Mirrored(margin, within))


class _Planner:
    """One plan in the making: stage by stage, in each the geometry first."""

    def __init__(
        self,
        key: Int[Tensor, " b"],
        spec: TileSpec,
        sensor: Sensor | None,
        acquisition: Acquisition,
        operations: OperationList,
        inside: Rectangles | None,
    ) -> None:
        # Where the output of a stage has to come from; None: anywhere.
        self._inside = inside
        self._key, self._spec, self._sensor, self._acquisition = key, spec, sensor, acquisition
        self._list, self._members = operations, operations.members
        many = len(self._members)
        # What is generated is a constant elsewhere, and constants lie on a device after the first batch.
        words = operations.words if key.device.type == "cpu" else (None, None)
        self._shared = Draws.for_streams(key, many, words[0])
        # Every date is lit by its own sun: radiometry is drawn per date, geometry per sample.
        alone = spec.dates == 1
        self._dated = self._shared if alone else Draws.for_streams(split_keys(key, spec.dates), many, words[1])
        # None: nothing has moved yet.
        self._matrix: Matrices | None = None
        if spec.context > 0:
            self._matrix = matrices.shift(len(key), -spec.context, -spec.context, key.device)
        self._so_far: Matrices | None = None
        self._after: Matrices | None = None
        self._turned: tuple[Tensor | None, Tensor | None] = (None, None)
        self._frame, self._keeps_place, self._shrinkage = spec.tile, True, 1.0
        self._back: tuple[Matrices | None, Tensor | None] = (None, None)
        self._known_grids: list[tuple[Sensor, Matrices | None, BandGrids | None]] = []
        self._drawn: dict[int, Drawn] = {}
        self._params: dict[int, Params] = {}
        self._choices: dict[int, Choice] = {}

    def plan(self, size: Size | None, fit: Fit, mirrored: Mirrored | None = None) -> Plan:
        if mirrored is not None and mirrored.margin > 0:
            count, margin, device = len(self._key), mirrored.margin, self._key.device
            back = matrices.shift(count, -margin, -margin, device)
            self._matrix = back if self._matrix is None else _composed(self._matrix, back)
            # What is told of the place of pixels is told of those that were read.
            self._so_far = matrices.shift(count, margin, margin, device)
        stages: list[Stage] = []
        begin = 0
        for position, member in enumerate(self._members):
            if not isinstance(member.step, Opaque):
                continue
            stages.append(self._fused(range(begin, position)))
            stages.append(self._opaque(position, member.step))
            if self._inside is not None:
                self._inside = whole(len(self._key), self._frame, self._key.device)
            begin = position + 1
        stages.append(self._fused(range(begin, len(self._members)), size, fit))
        # A plan for one date says nothing about what dates take.
        dated = self._list.words[1] if self._dated is self._shared else [draws.taken for draws in self._dated]
        self._list.words = ([draws.taken for draws in self._shared], dated)
        drawn = tuple(self._drawn[position] for position in sorted(self._drawn))
        return Plan(self._key, tuple(stages), drawn, self._spec.context, self._keeps_place, mirrored)

    def _fused(self, positions: range, size: Size | None = None, fit: Fit = "crop") -> FusedStage:
        batch, device = len(self._key), self._key.device
        for position in positions:
            member = self._members[position]
            if isinstance(member.step, GeometricOperation | StockAffine):
                self._move(position, member, member.step)
        if size is not None and size != self._frame:
            self._matrix = _composed(_fit_matrix(batch, self._frame, size, fit, device), self._matrix)
            if fit == "resize":
                self._shrinkage *= max(self._frame.height / size.height, self._frame.width / size.width, 1.0)
            self._frame = size
        if self._inside is not None and self._matrix is not None:
            self._matrix = zoomed(self._matrix, self._frame, self._inside)
        # In memory of its own, as every other: a plan is the caller's.
        moved = self._matrix
        matrix = matrices.identity(batch, device).clone() if moved is None else matrices.quantised(moved)
        self._so_far, self._matrix = _composed(matrix, self._so_far), None
        most, self._shrinkage = most_places(self._shrinkage), 1.0
        segments, shift = self._radiometry(positions)
        grids = self._grids(positions) if segments else None
        return FusedStage(matrix, self._frame, segments, shift, most, grids)

    def _radiometry(self, positions: range) -> tuple[tuple[OperationSegment, ...], Tensor | None]:
        """The segments of a stage, and the shifts of its bands."""
        every = [(p, self._members[p].step) for p in positions]
        steps = [(p, step) for p, step in every if isinstance(step, RadiometricOperation)]
        # Those that follow another one's parameters come after it, wherever they stand.
        shapes = {p: self._shape(self._spec.dates, step) for p, step in steps}
        params = {p: self._sampled(p, step, shapes[p], positions) for p, step in sorted(steps, key=self._follows)}
        segments: tuple[OperationSegment, ...] = ()
        shift: Tensor | None = None
        for position, step in steps:
            self._drawn[position] = _drawn(type(step), params[position], self._spec.dates)
            if isinstance(step, RegistrationOperation):
                beside = step.gated_shift(params[position])
                shift = beside if shift is None else shift + beside
                continue
            for segment in step.gated_segments(params[position], shapes[position]):
                segments = folded(segments, segment)
        return segments, shift

    def _follows(self, numbered: tuple[int, RadiometricOperation]) -> bool:
        return self._members[numbered[0]].leader is not None

    def _move(self, position: int, member: Member, step: GeometricOperation | StockAffine) -> None:
        shape = TileShape(len(self._key), self._spec.bands, self._frame, self._key.device)
        params = self._chosen(position, step, _sample(step, self._shared[position], shape), 1)
        self._matrix = _composed(step.gated_matrix(params, shape), self._matrix)
        if isinstance(step, GeometricOperation):
            self._shrinkage *= step.shrinkage(self._frame)
        self._frame = step.output_size(self._frame)
        self._drawn[position] = _drawn(type(step.module if isinstance(step, StockAffine) else step), params)

    def _sampled(self, position: int, step: RadiometricOperation, shape: TileShape, stage: range) -> Params:
        dates = self._spec.dates
        if step.same_on_time and dates > 1:
            params = _sample(step, self._shared[position], self._shape(1, step))
            params = {name: value.repeat_interleave(dates, 0) for name, value in params.items()}
        else:
            params = _sample(step, self._dated[position], shape)
        leader = self._members[position].leader
        if leader is not None and leader in stage:
            params = step.following(params, self._params[leader])
        self._params[position] = self._chosen(position, step, params, dates)
        return self._params[position]

    def _shape(self, dates: int, step: RadiometricOperation) -> TileShape:
        """What radiometry may know: the tile as it comes out of the stage's geometry."""
        known = self._acquisition

        def rows(value: Tensor | None) -> Tensor | None:
            if value is None or dates == 1:
                return None if value is None else value.double()
            return value.double().repeat_interleave(dates, 0)

        azimuth, gsd = self._seen()
        return TileShape(
            len(self._key) * dates,
            self._spec.bands,
            self._frame,
            self._key.device,
            rows(known.sun_elevation),
            rows(azimuth),
            rows(gsd),
            rows(known.view_zenith),
            rows(known.relative_azimuth),
            step.sensor or self._sensor,
            rows(self._source()),
            self._band_grids(step.sensor or self._sensor, None),
            self._band_grids(step.sensor or self._sensor, self._so_far),
        )

    def _seen(self) -> tuple[Tensor | None, Tensor | None]:
        """Azimuth of the sun and metres to a pixel after the geometry so far, worked out once for each stage."""
        if self._so_far is not None and self._after is not self._so_far:
            azimuth, gsd = self._acquisition.sun_azimuth, self._acquisition.gsd_m
            if azimuth is not None:
                azimuth = matrices.transform_azimuths(azimuth.double(), self._so_far)
            if gsd is not None:
                gsd = gsd.double() / matrices.growth(self._so_far)
            self._after, self._turned = self._so_far, (azimuth, gsd)
        return self._turned

    def _source(self) -> Tensor | None:
        """From pixels of the tile after the geometry so far to those that were read, in two rows."""
        if self._so_far is not None and self._back[0] is not self._so_far:
            self._back = (self._so_far, matrices.inverse(self._so_far)[:, :2])
        return self._back[1]

    def _grids(self, positions: range) -> BandGrids | None:
        """The pixels of the bands on the tile as it comes out of the stage's geometry."""
        sensor = self._sensor
        for position in positions:
            sensor = sensor or getattr(self._members[position].step, "sensor", None)
        return self._band_grids(sensor, self._so_far)

    def _band_grids(self, sensor: Sensor | None, moved: Matrices | None) -> BandGrids | None:
        """The pixels of a sensor's bands on tiles that a matrix has moved; worked out once for each stage."""
        if sensor is None:
            return None
        for of, by, found in self._known_grids:
            if of is sensor and by is moved:
                return found
        made = self._new_band_grids(sensor, moved)
        self._known_grids = [*self._known_grids[-3:], (sensor, moved, made)]
        return made

    def _new_band_grids(self, sensor: Sensor, moved: Matrices | None) -> BandGrids | None:
        known, dates = self._acquisition, self._spec.dates
        sides = tuple(band.gsd_m for band in sensor.bands)
        resampling, device = known.band_resampling, self._key.device
        grids = band_grids(sides, known.gsd_m, moved, known.geotransform, resampling, len(self._key), device)
        if grids is None or dates == 1:
            return grids
        return replace(grids, numbers=grids.numbers.repeat_interleave(dates, 0))

    def _chosen(
        self, position: int, step: GeometricOperation | StockAffine | RadiometricOperation, params: Params, dates: int
    ) -> Params:
        """Parameters under the policy that the operation belongs to, if any."""
        member = self._members[position]
        if member.policy is None:
            return params
        first = position - member.number
        if first not in self._choices:
            self._choices[first] = member.policy.choose(self._shared[first + len(member.policy.operations)])
        choice = self._choices[first]
        gate = choice.applied[:, member.number].double().repeat_interleave(dates, 0)
        strength = choice.strength[:, member.number].repeat_interleave(dates, 0)
        assert not isinstance(step, StockAffine)
        return {**step.weakened(params, strength), "batch_prob": gate}

    def _opaque(self, position: int, step: Opaque) -> OpaqueStage:
        dates = 1 if step.geometric else self._spec.dates
        draws = self._shared if step.geometric else self._dated
        rows = TileShape(len(self._key) * dates, self._spec.bands, self._frame, self._key.device)
        params = step.sample(draws[position], rows)
        self._drawn[position] = _drawn(type(step.module), params, dates)
        self._keeps_place = self._keeps_place and not step.geometric
        return OpaqueStage(self._members[position].index, params["seed"], self._frame)


def _sample(step: GeometricOperation | RadiometricOperation | StockAffine, draws: Draws, shape: TileShape) -> Params:
    if isinstance(step, StockAffine) or not step.same_on_batch or len(draws) == 0:
        return step.sample(draws, shape)

    def first(value: Tensor | None) -> Tensor | None:
        return None if value is None else value[:1]

    def first_grids(grids: BandGrids | None) -> BandGrids | None:
        return None if grids is None else replace(grids, numbers=grids.numbers[:1])

    alone = replace(
        shape,
        batch=1,
        sun_elevation=first(shape.sun_elevation),
        sun_azimuth=first(shape.sun_azimuth),
        gsd_m=first(shape.gsd_m),
        view_zenith=first(shape.view_zenith),
        relative_azimuth=first(shape.relative_azimuth),
        source=first(shape.source),
        grids=first_grids(shape.grids),
        grids_here=first_grids(shape.grids_here),
    )
    shared = draws.first()
    one = step.sample(shared, alone)
    draws.taken = shared.taken
    return {name: value.expand(shape.batch, *value.shape[1:]) for name, value in one.items()}


def _composed(matrix: Matrices, before: Matrices | None) -> Matrices:
    return matrix if before is None else torch.bmm(matrix, before)


def _drawn(operation: type, params: Params, dates: int = 1) -> Drawn:
    return Drawn(operation_name(operation), params, dates, package_of(operation.__module__))


def _fit_matrix(batch: int, frame: Size, size: Size, fit: Fit, device: torch.device) -> Matrices:
    if fit == "resize":
        linear = torch.zeros(batch, 2, 2, dtype=torch.float64, device=device)
        linear[:, 0, 0] = size.width / frame.width
        linear[:, 1, 1] = size.height / frame.height
        return matrices.about_centre(linear, frame, size)
    left, top = (frame.width - size.width) // 2, (frame.height - size.height) // 2
    return matrices.shift(batch, -left, -top, device)

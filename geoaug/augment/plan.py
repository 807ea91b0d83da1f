"""Plans: everything that will happen to a batch, decided before a pixel is touched.

A plan is a short list of stages. A fused stage is one matrix and one set of radiometric terms, whatever number of
operations they were composed from; an opaque stage is one stock operation that needs the pixels. A plan is small,
prints, goes through JSON and back, and can be applied again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from geoaug.augment import matrices
from geoaug.augment.base import GeometricOperation, Params, RadiometricOperation, TileShape
from geoaug.augment.matrices import Matrices, Size
from geoaug.augment.stock import Opaque, StockAffine
from geoaug.augment.terms import Terms
from geoaug.random import Draws, split_keys
from geoaug.sensors import Sensor

Step = GeometricOperation | StockAffine | RadiometricOperation | Opaque
Fit = Literal["crop", "resize"]


@dataclass(frozen=True, slots=True)
class FusedStage:
    """Any number of geometric and radiometric operations, composed.

    Attributes:
        matrix: input to output pixel centres, float64.
        terms: per sample and channel (bands, and dates times bands for a time series).
        size: of the output tile.
    """

    matrix: Matrices
    terms: Terms
    size: Size


@dataclass(frozen=True, slots=True)
class OpaqueStage:
    """One stock operation, run by itself.

    Attributes:
        step: its position in the list of operations.
        seeds: for torch's generator, one per sample (or per date of a sample).
        size: of the tile, in and out.
    """

    step: int
    seeds: Int[Tensor, " n"]
    size: Size


Stage = FusedStage | OpaqueStage


@dataclass(frozen=True, slots=True)
class Drawn:
    """The parameters of one operation: rows for the samples, or for the dates of the samples."""

    name: str
    params: Params
    dates: int = 1


@dataclass(frozen=True)
class Plan:
    """What happens to each sample of a batch.

    Attributes:
        key: identity of the samples for randomness.
        stages: in order of execution.
        drawn: parameters of every operation, gates included.
        context: pixels around the tile that the image brings along on each side.
        keeps_place: whether a geotransform still describes the output (false after an elastic or other bend).
    """

    key: Int[Tensor, " b"]
    stages: tuple[Stage, ...]
    drawn: tuple[Drawn, ...] = field(repr=False)
    context: int = 0
    keeps_place: bool = True

    @property
    def size(self) -> Size:
        """Size of the output tile."""
        return self.stages[-1].size

    @property
    def matrix(self) -> Matrices:
        """The composed matrix from input to output pixel centres, without what opaque stages do."""
        total: Matrices | None = None
        for stage in self.stages:
            if isinstance(stage, FusedStage):
                total = stage.matrix if total is None else stage.matrix @ total
        assert total is not None  # a plan begins and ends with a fused stage
        return total

    def parameters(self) -> list[dict[str, Any]]:
        """What was drawn for each sample, ready for JSON; operations that skipped a sample are absent."""
        rows: list[dict[str, Any]] = [{} for _ in range(len(self.key))]
        seen: Counter[str] = Counter()
        for drawn in self.drawn:
            seen[drawn.name] += 1
            name = drawn.name if seen[drawn.name] == 1 else f"{drawn.name}#{seen[drawn.name]}"
            # Two operations may draw nothing but a gate, or nothing at all (a resize): present and empty.
            columns = {key: _rows(value, drawn.dates) for key, value in drawn.params.items() if key != "matrix"}
            gate = columns.pop("batch_prob", [1.0] * len(rows))
            for index, row in enumerate(rows):
                applied = gate[index]
                if any(applied) if isinstance(applied, list) else applied:
                    row[name] = {key: values[index] for key, values in columns.items()}
                    if isinstance(applied, list) and not all(applied):
                        row[name]["applied"] = applied
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The plan as lists and numbers, ready for JSON."""
        return {
            "key": self.key.tolist(),
            "context": self.context,
            "keeps_place": self.keeps_place,
            "stages": [_stage_to_dict(stage) for stage in self.stages],
            "drawn": [
                {
                    "name": drawn.name,
                    "dates": drawn.dates,
                    "params": {k: v.tolist() for k, v in drawn.params.items()},
                }
                for drawn in self.drawn
            ],
        }

    @staticmethod
    def from_dict(record: dict[str, Any]) -> Plan:
        """The plan that `to_dict` wrote."""
        drawn = tuple(
            Drawn(
                item["name"],
                {name: _numbers(values) for name, values in item["params"].items()},
                item["dates"],
            )
            for item in record["drawn"]
        )
        stages = tuple(_stage_from_dict(item) for item in record["stages"])
        key = torch.tensor(record["key"], dtype=torch.int64)
        return Plan(key, stages, drawn, record["context"], record["keeps_place"])

    def to(self, device: torch.device) -> Plan:
        """The plan with what an executor reads on that device; drawn parameters stay where they are."""

        def moved(stage: Stage) -> Stage:
            if isinstance(stage, OpaqueStage):
                return stage
            terms = stage.terms
            parts = (terms.gain, terms.offset, terms.floor, terms.slope)
            return FusedStage(
                stage.matrix.to(device, non_blocking=True),
                Terms(*(None if part is None else part.to(device, non_blocking=True) for part in parts)),  # type: ignore[arg-type]
                stage.size,
            )

        if self.key.device == device:
            return self
        key = self.key.to(device, non_blocking=True)
        return Plan(key, tuple(map(moved, self.stages)), self.drawn, self.context, self.keeps_place)


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


def make_plan(
    steps: Sequence[Step],
    key: Int[Tensor, " b"],
    spec: TileSpec,
    *,
    sensor: Sensor | None,
    size: Size | None,
    fit: Fit,
) -> Plan:
    """Draw and compose a plan.

    Args:
        steps: the operations, in order.
        key: of the samples.
        spec: of the tiles.
        sensor: whose bands the image has.
        size: of the output; None: whatever the operations leave.
        fit: how the tile comes to `size`: a centred crop (or pad), or a resize.
    """
    batch, device = len(key), key.device
    channels = spec.dates * spec.bands
    matrix = matrices.shift(batch, -spec.context, -spec.context, device)
    terms = Terms.identity(batch, channels, device)
    frame, keeps_place = spec.tile, True
    stages: list[Stage] = []
    drawn: list[Drawn] = []
    shared = Draws.for_streams(key, len(steps))
    # Every date is lit by its own sun: radiometry is drawn per date, geometry per sample.
    dated = shared if spec.dates == 1 else Draws.for_streams(split_keys(key, spec.dates), len(steps))
    for position, step in enumerate(steps):
        shape = TileShape(batch, spec.bands, frame, device)
        if isinstance(step, Opaque):
            dates = 1 if step.geometric else spec.dates
            draws = shared if step.geometric else dated
            params = step.sample(draws[position], TileShape(batch * dates, spec.bands, frame, device))
            drawn.append(Drawn(f"kornia.{step.name}", params, dates))
            stages.append(FusedStage(matrix, terms, frame))
            stages.append(OpaqueStage(position, params["seed"], frame))
            matrix, terms = matrices.identity(batch, device), Terms.identity(batch, channels, device)
            keeps_place = keeps_place and not step.geometric
            continue
        if isinstance(step, RadiometricOperation):
            rows = TileShape(batch * spec.dates, spec.bands, frame, device)
            params = _sample(step, dated[position], rows)
            terms = terms.then(step.gated_terms(params, step.sensor or sensor).regrouped(spec.dates))
            drawn.append(Drawn(type(step).__name__, params, spec.dates))
            continue
        params = _sample(step, shared[position], shape)
        matrix = step.gated_matrix(params, shape) @ matrix
        frame = step.output_size(frame)
        drawn.append(Drawn(_name(step), params))
    if size is not None and size != frame:
        matrix = _fit_matrix(batch, frame, size, fit, device) @ matrix
        frame = size
    stages.append(FusedStage(matrices.quantised(matrix), terms, frame))
    return Plan(key, tuple(stages), tuple(drawn), spec.context, keeps_place)


def _sample(step: GeometricOperation | RadiometricOperation | StockAffine, draws: Draws, shape: TileShape) -> Params:
    if isinstance(step, StockAffine) or not step.same_on_batch or len(draws) == 0:
        return step.sample(draws, shape)
    one = step.sample(draws.first(), TileShape(1, shape.bands, shape.size, shape.device))
    return {name: value.expand(shape.batch, *value.shape[1:]) for name, value in one.items()}


def _name(step: GeometricOperation | StockAffine) -> str:
    return f"kornia.{type(step.module).__name__}" if isinstance(step, StockAffine) else type(step).__name__


def _fit_matrix(batch: int, frame: Size, size: Size, fit: Fit, device: torch.device) -> Matrices:
    if fit == "resize":
        linear = torch.zeros(batch, 2, 2, dtype=torch.float64, device=device)
        linear[:, 0, 0] = size.width / frame.width
        linear[:, 1, 1] = size.height / frame.height
        return matrices.about_centre(linear, frame, size)
    left, top = (frame.width - size.width) // 2, (frame.height - size.height) // 2
    return matrices.shift(batch, -left, -top, device)


def _rows(value: Tensor, dates: int) -> list[Any]:
    """Per-sample numbers, rounded to nine digits: the last places differ between machines."""
    samples: Tensor = value.double() if value.is_floating_point() else value
    if dates > 1:
        samples = samples.reshape(-1, dates, *samples.shape[1:])
    if samples.dim() > 1 and samples.shape[-1] == 1:
        samples = samples[..., 0]

    def rounded(item: Any) -> Any:
        if isinstance(item, list):
            return [rounded(part) for part in item]
        return float(f"{item:.9g}") if isinstance(item, float) else item

    return [rounded(item) for item in samples.tolist()]


def _numbers(values: list[Any]) -> Tensor:
    flat = values
    while flat and isinstance(flat[0], list):
        flat = flat[0]
    whole = bool(flat) and isinstance(flat[0], int)
    return torch.tensor(values, dtype=torch.int64 if whole else torch.float64)


def _stage_to_dict(stage: Stage) -> dict[str, Any]:
    if isinstance(stage, OpaqueStage):
        return {"step": stage.step, "seeds": stage.seeds.tolist(), "size": list(stage.size)}
    terms = stage.terms
    return {
        "matrix": stage.matrix.tolist(),
        "size": list(stage.size),
        "gain": terms.gain.tolist(),
        "offset": terms.offset.tolist(),
        "floor": None if terms.floor is None else terms.floor.tolist(),
        "slope": None if terms.slope is None else terms.slope.tolist(),
    }


def _stage_from_dict(record: dict[str, Any]) -> Stage:
    size = Size(*record["size"])
    if "step" in record:
        return OpaqueStage(record["step"], torch.tensor(record["seeds"], dtype=torch.int64), size)

    def tensor(name: str) -> Tensor | None:
        value = record[name]
        return None if value is None else torch.tensor(value, dtype=torch.float64)

    matrix, gain, offset = tensor("matrix"), tensor("gain"), tensor("offset")
    assert matrix is not None
    assert gain is not None
    assert offset is not None
    return FusedStage(matrix, Terms(gain, offset, tensor("floor"), tensor("slope")), size)

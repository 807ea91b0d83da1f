"""Plans: everything that will happen to a batch, decided before a pixel is touched.

A plan is a short list of stages. A fused stage is one matrix and one set of radiometric terms, whatever number of
operations they were composed from; an opaque stage is one stock operation that needs the pixels. A plan is small,
prints, goes through JSON and back, and can be applied again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geoaug.augment.planning.band_grids import BandGrids
from geoaug.augment.planning.cover import Mirrored
from geoaug.augment.planning.matrices import Matrices, Size, shift
from geoaug.augment.planning.segments import OperationSegment
from geoaug.augment.planning.tree import from_record, map_tensors, to_record

Params = dict[str, Tensor]
"""What an operation has drawn, by name: tensors with one row for each row of the tiles."""


@dataclass(frozen=True, slots=True)
class FusedStage:
    """Any number of geometric and radiometric operations, composed.

    Attributes:
        matrix: input to output pixel centres, float64.
        size: of the output tile.
        segments: radiometry in reflectance, one row for each date of each sample.
        band_shift: x and y, in input pixels, by which bands are taken from beside where they lie; None: none is.
        most_places: along an axis of an output pixel, how many places at most are sampled and averaged: more than one
            where the stage may shrink the tile.
        grids: where the pixels of bands that are coarser than the tile lie; None where none are.
    """

    matrix: Matrices
    size: Size
    segments: tuple[OperationSegment, ...] = ()
    band_shift: Float[Tensor, "r c 2"] | None = None
    most_places: int = 1
    grids: BandGrids | None = None


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
    """The parameters of one operation.

    Attributes:
        name: by which a recipe names the operation.
        params: rows for the samples, or for the dates of the samples.
        dates: of a sample, 1 where rows are samples.
        package: name and version of the distribution that it comes from; None for geoaug and kornia.
    """

    name: str
    params: Params
    dates: int = 1
    package: tuple[str, str] | None = None


@dataclass(frozen=True)
class Plan:
    """What happens to each sample of a batch.

    Attributes:
        key: identity of the samples for randomness.
        stages: in order of execution.
        drawn: parameters of every operation, gates included.
        context: pixels around the tile that the image brings along on each side.
        keeps_place: whether a geotransform still describes the output (false after an elastic or other bend).
        mirrored: how the input is continued beyond its edges before anything else; None: not at all.
    """

    key: Int[Tensor, " b"]
    stages: tuple[Stage, ...]
    drawn: tuple[Drawn, ...] = field(repr=False)
    context: int = 0
    keeps_place: bool = True
    mirrored: Mirrored | None = None

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
        if self.mirrored is None or self.mirrored.margin == 0:
            return total
        return total @ shift(len(self.key), self.mirrored.margin, self.mirrored.margin, total.device)

    def parameters(self) -> list[dict[str, Any]]:
        """What was drawn for each sample, ready for JSON; operations that skipped a sample are absent.

        Those of other packages say which, as "package": "name version".
        """
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
                    if drawn.package is not None:
                        row[name]["package"] = " ".join(drawn.package)
                    if isinstance(applied, list) and not all(applied):
                        row[name]["applied"] = applied
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The plan as lists and numbers, ready for JSON."""
        return {
            "key": self.key.tolist(),
            "context": self.context,
            "keeps_place": self.keeps_place,
            "mirrored": to_record(self.mirrored),
            "stages": [_stage_to_dict(stage) for stage in self.stages],
            "drawn": [
                {
                    "name": drawn.name,
                    "dates": drawn.dates,
                    "params": {k: to_record(v) for k, v in drawn.params.items()},
                    **({} if drawn.package is None else {"package": list(drawn.package)}),
                }
                for drawn in self.drawn
            ],
        }

    @staticmethod
    def from_dict(record: dict[str, Any]) -> Plan:
        """The plan that `to_dict` wrote.

        Raises:
            ConfigurationError: it holds a part whose module has not been imported, such as the kernel of a stencil of
                another package.
        """
        drawn = tuple(
            Drawn(
                item["name"],
                {name: from_record(values) for name, values in item["params"].items()},
                item["dates"],
                tuple(item["package"]) if "package" in item else None,
            )
            for item in record["drawn"]
        )
        stages = tuple(_stage_from_dict(item) for item in record["stages"])
        key = torch.tensor(record["key"], dtype=torch.int64)
        mirrored = from_record(record.get("mirrored"))
        return Plan(key, stages, drawn, record["context"], record["keeps_place"], mirrored)

    def to(self, device: torch.device) -> Plan:
        """The plan with what an executor reads on that device; drawn parameters stay where they are."""
        if self.key.device == device:
            return self

        def moved(tree: Any) -> Any:
            return map_tensors(tree, lambda tensor: tensor.to(device, non_blocking=True))

        stages = tuple(stage if isinstance(stage, OpaqueStage) else moved(stage) for stage in self.stages)
        return Plan(moved(self.key), stages, self.drawn, self.context, self.keeps_place, moved(self.mirrored))


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


def _stage_to_dict(stage: Stage) -> dict[str, Any]:
    if isinstance(stage, OpaqueStage):
        return {"step": stage.step, "seeds": stage.seeds.tolist(), "size": list(stage.size)}
    return {
        "matrix": to_record(stage.matrix),
        "size": list(stage.size),
        "segments": to_record(stage.segments),
        "band_shift": to_record(stage.band_shift),
        "most_places": stage.most_places,
        "grids": to_record(stage.grids),
    }


def _stage_from_dict(record: dict[str, Any]) -> Stage:
    size = Size(*record["size"])
    if "step" in record:
        return OpaqueStage(record["step"], torch.tensor(record["seeds"], dtype=torch.int64), size)
    parts = {name: from_record(record.get(name)) for name in ("matrix", "segments", "band_shift", "grids")}
    return FusedStage(size=size, most_places=record["most_places"], **parts)

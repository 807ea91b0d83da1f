"""The maps that a prediction leaves: classes, values, probabilities and uncertainty, each a COG in the scene's grid."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS

from geoaug.data.raster.grid import Grid
from geoaug.data.raster.window import Window
from geoaug.io.streamed import StreamedRaster
from geoaug.models.networks.card import ModelCard

__all__ = ["NODATA", "MapFiles", "PredictedScene", "bytes_per_pixel"]

NODATA = 255
# Probabilities and uncertainties, 0..1, in steps that leave a number for nodata.
_STEPS = 254


@dataclass(frozen=True, slots=True)
class PredictedScene:
    """What was written.

    Attributes:
        classes: id of the likeliest class, uint8, 255 where there is no data; None for numbers and several labels.
        values: predicted numbers, float32, NaN where there is no data; None for classes.
        probabilities: of each class, uint8 in steps of 1/254; None where not asked for.
        uncertainty: entropy and mutual information over their greatest, uint8 in steps of 1/254; None where not asked
            for.
    """

    classes: Path | None
    values: Path | None
    probabilities: Path | None
    uncertainty: Path | None


class MapFiles:
    """The open maps; `paths` are those that they will have when they are whole."""

    def __init__(
        self, stack: ExitStack, name: str, grid: Grid, card: ModelCard, out: Path, *, probabilities: bool, passes: int
    ) -> None:
        self.card = card
        self.names = [one.name for one in card.classes] or [f"output {n + 1}" for n in range(card.architecture.outputs)]
        outputs = card.architecture.outputs
        self.paths = PredictedScene(None, None, None, None)
        crs = None if grid.crs is None else CRS.from_user_input(grid.crs)
        common = {"height": grid.height, "width": grid.width, "transform": grid.transform, "crs": crs}

        def sink(what: str, **options: object) -> StreamedRaster:
            path = out / f"{name}_{what}.tif"
            self.paths = replace(self.paths, **{what: path})
            return stack.enter_context(StreamedRaster(path, **{**common, **options}))  # type: ignore[arg-type]

        self.classes = self.values = self.probabilities = self.uncertainty = None
        if card.task == "regression":
            self.values = sink("values", count=outputs, dtype="float32", nodata=float("nan"))
            return
        if not card.multilabel:
            colours = {number: (*one.colour, 255) for number, one in enumerate(card.classes)}
            tags = {f"class_{number}": name for number, name in enumerate(self.names)}
            self.classes = sink(
                "classes", count=1, dtype="uint8", nodata=NODATA, categorical=True, colormap=colours or None, tags=tags
            )
        if probabilities or card.multilabel:
            named = self.names if len(self.names) == outputs else self.names[-outputs:]
            self.probabilities = sink(
                "probabilities",
                count=outputs,
                dtype="uint8",
                nodata=NODATA,
                descriptions=named,
                scales=[1 / _STEPS] * outputs,
            )
        if passes:
            described = ["entropy", "mutual information"]
            self.uncertainty = sink(
                "uncertainty", count=2, dtype="uint8", nodata=NODATA, descriptions=described, scales=[1 / _STEPS] * 2
            )

    def write(self, place: Window, answers: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> None:
        """A part of the scene: what was answered (channels, height, width), and where there is data."""
        outputs = self.card.architecture.outputs
        if self.values is not None:
            self.values.write(np.where(valid, answers, np.float32(np.nan)), place.row, place.col)
            return
        if self.classes is not None:
            likeliest = answers[:outputs].argmax(0) if outputs > 1 else answers[0] > 0.5
            self.classes.write(np.where(valid, likeliest, NODATA).astype(np.uint8)[None], place.row, place.col)
        if self.probabilities is not None:
            self.probabilities.write(_in_steps(answers[:outputs], valid), place.row, place.col)
        if self.uncertainty is not None:
            self.uncertainty.write(_in_steps(answers[outputs:], valid), place.row, place.col)


def bytes_per_pixel(card: ModelCard, *, probabilities: bool, passes: int) -> int:
    """Of all maps together."""
    outputs = card.architecture.outputs
    if card.task == "regression":
        return 4 * outputs
    shares = outputs if probabilities or card.multilabel else 0
    return (0 if card.multilabel else 1) + shares + (2 if passes else 0)


def _in_steps(shares: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    steps = np.rint(np.clip(shares, 0, 1) * _STEPS)
    return np.where(valid, steps, NODATA).astype(np.uint8)

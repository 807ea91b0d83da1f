"""The files of a predicted map, each a COG in the scene's grid. What is in them is said by the task's `MapLayer`s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS

from geoaug.data.raster.grid import Grid
from geoaug.data.raster.window import Window
from geoaug.io.streamed import StreamedRaster
from geoaug.models.tasks.base import MapLayer

__all__ = ["MapFiles", "PredictedScene", "bytes_per_pixel"]


@dataclass(frozen=True, slots=True)
class PredictedScene:
    """What was written.

    Attributes:
        files: by the name of what is in them, as the task has it.
    """

    files: Mapping[str, Path]

    @property
    def classes(self) -> Path | None:
        """Id of the likeliest class, uint8, 255 where there is no data; None for numbers and several labels."""
        return self.files.get("classes")

    @property
    def values(self) -> Path | None:
        """Predicted numbers, float32, NaN where there is no data; None for classes."""
        return self.files.get("values")

    @property
    def probabilities(self) -> Path | None:
        """Of each class, uint8 in steps of 1/254; None where not asked for."""
        return self.files.get("probabilities")

    @property
    def uncertainty(self) -> Path | None:
        """Entropy and mutual information over their greatest, uint8 in steps of 1/254; None where not asked for."""
        return self.files.get("uncertainty")


class MapFiles:
    """The open files; `paths` are those that they will have when they are whole."""

    def __init__(self, stack: ExitStack, name: str, grid: Grid, layers: Sequence[MapLayer], out: Path) -> None:
        self.layers = layers
        self.paths = PredictedScene({layer.name: out / f"{name}_{layer.name}.tif" for layer in layers})
        crs = None if grid.crs is None else CRS.from_user_input(grid.crs)
        self._rasters = [
            stack.enter_context(
                StreamedRaster(
                    self.paths.files[layer.name],
                    height=grid.height,
                    width=grid.width,
                    transform=grid.transform,
                    crs=crs,
                    count=layer.count,
                    dtype=layer.dtype,
                    nodata=layer.nodata,
                    categorical=layer.categorical,
                    colormap=layer.colormap,
                    tags=layer.tags,
                    descriptions=layer.descriptions,
                    scales=layer.scales,
                )
            )
            for layer in layers
        ]

    def write(self, window: Window, answers: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> None:
        """A part of the scene: what was answered (channels, height, width), and where there is data."""
        for layer, raster in zip(self.layers, self._rasters, strict=True):
            pixels = np.where(valid, layer.pixels(answers), layer.nodata).astype(layer.dtype)
            raster.write(pixels, window.row, window.col)


def bytes_per_pixel(layers: Sequence[MapLayer]) -> int:
    """Of all files together."""
    return sum(layer.count * np.dtype(layer.dtype).itemsize for layer in layers)

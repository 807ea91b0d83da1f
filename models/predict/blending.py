"""Overlapping windows over a scene, and the smooth weights that their answers are blended with.

Pure numbers: nothing here reads or predicts. Along each axis a window counts fully in its middle, not at all within
`margin` pixels of its edge, where the network lacks context, and rises smoothly in between, so that two neighbours'
weights add up to one. Windows come in order, and what no later one reaches is given away at once: what is kept is
the overlap below a row of windows and that beside the last one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError

__all__ = ["Blend", "StripBlender"]


@dataclass(frozen=True, slots=True)
class Blend:
    """How windows lie and count.

    Args:
        tile: side of a window, pixels.
        overlap: that two neighbours share.
        margin: at each edge of a window that does not count at all.

    Raises:
        ConfigurationError: an overlap that leaves no step, or a margin that leaves no rise.
    """

    tile: int
    overlap: int
    margin: int

    def __post_init__(self) -> None:
        if not 0 < self.overlap <= self.tile // 2:
            raise ConfigurationError(
                f"windows of {self.tile} pixels overlap by 1 to {self.tile // 2} pixels, not {self.overlap}"
            )
        if not 0 <= 2 * self.margin < self.overlap:
            raise ConfigurationError(f"margin={self.margin} is less than half the overlap of {self.overlap} pixels")

    @property
    def step(self) -> int:
        """From one window to the next."""
        return self.tile - self.overlap

    def starts(self, length: int) -> list[int]:
        """First pixels of the windows along an axis; the outer ones reach past the scene by the margin or more."""
        last = length - self.tile + self.margin
        return [
            -self.margin + self.step * number for number in range(max(-(-(last + self.margin) // self.step), 0) + 1)
        ]

    def rows(self, height: int, width: int) -> list[list[Window]]:
        """The windows over a scene, row by row."""
        return [[Window(row, col, self.tile, self.tile) for col in self.starts(width)] for row in self.starts(height)]

    def rise(self) -> npt.NDArray[np.float64]:
        """What each pixel of a window counts along an axis, (tile,)."""
        position = np.arange(self.tile)
        inside = np.minimum(position, self.tile - 1 - position) - self.margin + 0.5
        share = np.clip(inside / (self.overlap - 2 * self.margin), 0, 1)
        return share**2 * (3 - 2 * share)

    def shares(self, length: int) -> npt.NDArray[np.float32]:
        """What each pixel of each window counts of all windows there, along an axis, (windows, tile).

        At the scene's edges, where a window has no neighbour, it counts alone; outside of the scene nothing does.
        """
        positions = np.array(self.starts(length))[:, None] + np.arange(self.tile)
        inside = (positions >= 0) & (positions < length)
        found = np.where(inside, self.rise(), 0.0)
        totals = np.zeros(length)
        np.add.at(totals, positions[inside], found[inside])
        found[inside] /= totals[positions[inside]]
        return found.astype(np.float32)


class StripBlender:
    """Sums of weighted answers where a later window still reaches.

    Args:
        channels: of the answers.
        height: of the scene.
        width: of the scene.
        blend: see `Blend`.
    """

    def __init__(self, channels: int, height: int, width: int, blend: Blend) -> None:
        self.blend, self.height, self.width = blend, height, width
        self._down, self._across = blend.shares(height), blend.shares(width)
        self._above = np.zeros((channels, blend.overlap, len(self._across) * blend.step + blend.overlap), np.float32)
        self._beside = np.zeros((channels, blend.tile, blend.overlap), np.float32)
        self._row = self._col = 0

    def add(self, window: Window, answer: npt.NDArray[np.float32]) -> tuple[Window, npt.NDArray[np.float32]]:
        """Take the next window's answer (channels, tile, tile), and give what of the scene is finished with it.

        Raises:
            ConfigurationError: it is not the next window of `Blend.rows`.
        """
        blend = self.blend
        top, left = self._row * blend.step - blend.margin, self._col * blend.step - blend.margin
        if (window.row, window.col) != (top, left) or self._row == len(self._down):
            raise ConfigurationError(f"{window} is not the next one: that begins at row {top}, column {left}")
        sums = answer * np.outer(self._down[self._row], self._across[self._col])
        lowest, rightmost = self._row + 1 == len(self._down), self._col + 1 == len(self._across)
        high, wide = (blend.tile if last else blend.step for last in (lowest, rightmost))
        sums[:, :, : blend.overlap] += self._beside
        above = self._above[:, :, left + blend.margin : left + blend.margin + wide]
        sums[:, : blend.overlap, :wide] += above
        above[:] = sums[:, blend.step :, :wide]
        self._beside = np.zeros_like(self._beside) if rightmost else sums[:, :, blend.step :].copy()
        self._row, self._col = (self._row + 1, 0) if rightmost else (self._row, self._col + 1)
        position = Window(top, left, high, wide).inside(self.height, self.width)
        assert position is not None  # no window lies outside
        rows = slice(position.row - top, position.row_stop - top)
        return position, sums[:, rows, position.col - left : position.col_stop - left]

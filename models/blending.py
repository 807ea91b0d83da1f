"""Overlapping windows over a scene, and the smooth weights that their answers are blended with.

Pure numbers: nothing here reads or predicts. Along each axis a window counts fully in its middle, not at all within
`margin` pixels of its edge, where the network lacks context, and rises smoothly in between, so that two neighbours'
weights add up to one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geoaug.data.windows import Window
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

    def weight(self) -> npt.NDArray[np.float32]:
        """What each pixel of a window counts, (tile, tile)."""
        place = np.arange(self.tile)
        inside = np.minimum(place, self.tile - 1 - place) - self.margin + 0.5
        share = np.clip(inside / (self.overlap - 2 * self.margin), 0, 1)
        rise = share**2 * (3 - 2 * share)
        return np.outer(rise, rise).astype(np.float32)


class StripBlender:
    """Sums of weighted answers for the rows that windows still reach; what lies above is finished and given away.

    Args:
        channels: of the answers.
        width: of the scene.
        height: of the scene.
        blend: see `Blend`.
    """

    def __init__(self, channels: int, height: int, width: int, blend: Blend) -> None:
        self.blend, self.height, self.width = blend, height, width
        self._weight = blend.weight()
        self._sums = np.zeros((channels, blend.tile, width), np.float32)
        self._weights = np.zeros((blend.tile, width), np.float32)
        self._top = -blend.margin

    def add(self, window: Window, answer: npt.NDArray[np.float32]) -> None:
        """Take a window's answer (channels, tile, tile) into the sums."""
        left, right = max(window.col, 0), min(window.col_stop, self.width)
        if window.row != self._top or right <= left:
            raise ConfigurationError(f"{window} does not lie in the row of windows at {self._top}")
        inside = slice(left - window.col, right - window.col)
        self._sums[:, :, left:right] += answer[:, :, inside] * self._weight[:, inside]
        self._weights[:, left:right] += self._weight[:, inside]

    def finished(self, *, last: bool = False) -> npt.NDArray[np.float32]:
        """The rows (channels, n, width) of the scene that no later window reaches, once a row of windows is done."""
        step = self.blend.tile if last else self.blend.step
        # Below the last step only the margin of this row, which counts nothing, and the next row's answers.
        first, stop = max(self._top, 0) - self._top, min(self._top + step, self.height) - self._top
        stop = max(stop, first)
        weights = np.maximum(self._weights[first:stop], np.finfo(np.float32).tiny)
        rows = np.divide(self._sums[:, first:stop], weights, dtype=np.float32)
        for sums in (self._sums, self._weights):
            kept = sums[..., step:, :].copy()
            sums[..., : self.blend.tile - step, :] = kept
            sums[..., self.blend.tile - step :, :] = 0
        self._top += step
        return rows

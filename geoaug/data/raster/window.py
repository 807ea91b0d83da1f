"""Windows of a scene and the grids of tiles that cover it.

Pure integer mathematics on pixel rows and columns: nothing here opens a file or knows of a CRS.
"""

from dataclasses import dataclass
from typing import Literal

from geoaug.errors import ConfigurationError, RasterError


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle of pixels: its first `row` and `col`, and its `height` and `width`, all in pixels.

    Rows and columns may be negative or reach past a scene: a reader fills what lies outside.
    """

    row: int
    col: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ConfigurationError(
                f"a window needs at least one row and one column, not {self.height} x {self.width}"
            )

    @property
    def row_stop(self) -> int:
        """The first row below the window."""
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        """The first column to the right of the window."""
        return self.col + self.width

    def padded(self, pixels: int) -> "Window":
        """The window with `pixels` more on each of its four sides."""
        return Window(self.row - pixels, self.col - pixels, self.height + 2 * pixels, self.width + 2 * pixels)

    def inside(self, height: int, width: int) -> "Window | None":
        """The part of the window inside a scene of `height` x `width` pixels, or None where there is none."""
        row, col = max(self.row, 0), max(self.col, 0)
        row_stop, col_stop = min(self.row_stop, height), min(self.col_stop, width)
        if row >= row_stop or col >= col_stop:
            return None
        return Window(row, col, row_stop - row, col_stop - col)


def tile_grid(
    height: int,
    width: int,
    tile: int,
    stride: int | None = None,
    edge: Literal["shift", "drop"] = "shift",
) -> list[Window]:
    """The windows of `tile` x `tile` pixels that cover a scene of `height` x `width` pixels, row by row.

    Every window lies wholly inside the scene. `stride` (pixels, the tile's size where None) is the step from
    one tile to the next: a smaller one makes tiles overlap, a larger one leaves gaps. What remains at the
    bottom and at the right, too small for a whole step, is covered by a last tile shifted inward
    (`edge="shift"`), or left out (`edge="drop"`).

    Raises `RasterError` where the tile is larger than the scene, `ConfigurationError` for a tile or stride
    below 1.
    """
    step = tile if stride is None else stride
    if tile < 1:
        raise ConfigurationError(f"the tile size is {tile}: it must be at least 1 pixel")
    if step < 1:
        raise ConfigurationError(f"the stride is {step}: it must be at least 1 pixel")
    if edge not in ("shift", "drop"):
        raise ConfigurationError(f"edge is {edge!r}: it must be 'shift' or 'drop'")
    if tile > height or tile > width:
        raise RasterError(
            f"the tile of {tile} x {tile} pixels is larger than the scene of {height} x {width} "
            f"(rows x columns): choose a tile of {min(height, width)} pixels or less"
        )
    rows, cols = _starts(height, tile, step, edge), _starts(width, tile, step, edge)
    return [Window(row, col, tile, tile) for row in rows for col in cols]


def _starts(length: int, tile: int, stride: int, edge: Literal["shift", "drop"]) -> list[int]:
    starts = list(range(0, length - tile + 1, stride))
    if edge == "shift" and starts[-1] + tile < length:
        starts.append(length - tile)
    return starts

"""Geometric operations: turns, flips, scaling, crops. Each is a matrix; who resamples with it is not decided here."""

import math
from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from torch import Tensor

from geoaug.augment.operations.base import (
    BatchOptions,
    GeometricOperation,
    GeometricOptions,
    TileShape,
    as_range,
    as_size,
)
from geoaug.augment.planning import matrices
from geoaug.augment.planning.matrices import Matrices, Size
from geoaug.augment.planning.plan import Params
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import Draws


class RandomD4(GeometricOperation):
    """One of the eight symmetries of the square, equally likely: seen from above, no direction is special.

    A tile that is not square keeps its shape: it takes one of the four symmetries of the rectangle. Exact, bit for
    bit.
    """

    default_p = 1.0

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        if shape.size.height == shape.size.width:
            return {"symmetry": draws.integer(8)}
        return {"symmetry": 2 * draws.integer(4)}

    def matrix(self, params: Params, shape: TileShape) -> Matrices:
        return matrices.symmetry(params["symmetry"].long(), shape.size)


class RandomHorizontalFlip(GeometricOperation):
    """Swap left and right. Exact, bit for bit."""

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        return {"symmetry": torch.full((shape.batch,), 4, device=shape.device)}

    def matrix(self, params: Params, shape: TileShape) -> Matrices:
        return matrices.symmetry(params["symmetry"].long(), shape.size)


class RandomVerticalFlip(RandomHorizontalFlip):
    """Swap top and bottom. Exact, bit for bit."""

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        return {"symmetry": torch.full((shape.batch,), 6, device=shape.device)}


class RandomRotation90(GeometricOperation):
    """Quarter turns counter-clockwise; half turns only, where a tile is not square. Exact, bit for bit.

    Args:
        times: least and greatest number of quarter turns, equally likely in between.
        **options: see `GeometricOptions`.
    """

    def __init__(
        self,
        times: tuple[int, int] = (0, 3),
        **options: Unpack[GeometricOptions],
    ) -> None:
        super().__init__(**options)
        low, high = as_range(times, "times", low=-3, high=3)
        self.times = (int(low), int(high))
        if self.times != (low, high):
            raise ConfigurationError(f"times={list(times)} are whole quarter turns", argument="times")
        self.flags = {"times": self.times}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        low, high = self.times
        return {"times": low + draws.integer(high - low + 1)}

    def matrix(self, params: Params, shape: TileShape) -> Matrices:
        turns = params["times"].long() % 4
        if shape.size.height != shape.size.width:
            turns = turns // 2 * 2
        return matrices.symmetry(turns, shape.size)


class RandomRotation(GeometricOperation):
    """Turn about the centre; positive is counter-clockwise as displayed.

    Args:
        degrees: a range, or one number for plus and minus it.
        **options: see `GeometricOptions`.
    """

    neutral: ClassVar = {"degrees": 0.0}

    def __init__(
        self,
        degrees: float | Sequence[float],
        **options: Unpack[GeometricOptions],
    ) -> None:
        super().__init__(**options)
        self.degrees = as_range(degrees, "degrees", low=-360, high=360, centre=0.0)
        self.flags = {"degrees": self.degrees}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        return {"degrees": draws.uniform(*self.degrees)}

    def matrix(self, params: Params, shape: TileShape) -> Matrices:
        return matrices.turned(params["degrees"].double(), shape.size)


class RandomAffine(GeometricOperation):
    """Turn, scale, shear and move, in that order, about the centre.

    Args:
        degrees: turn, counter-clockwise; a range, or one number for plus and minus it.
        translate: greatest move as a fraction of the width and of the height.
        scale: range of the magnification; above 1 zooms in. Drawn so that its logarithm is uniform.
        shear: shear along x, degrees; a range, or one number for plus and minus it.
        **options: see `GeometricOptions`.
    """

    neutral: ClassVar = {"degrees": 0.0, "scale": 1.0, "shear": 0.0, "translate_x": 0.0, "translate_y": 0.0}

    def __init__(
        self,
        degrees: float | Sequence[float] = 0.0,
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: float | Sequence[float] | None = None,
        **options: Unpack[GeometricOptions],
    ) -> None:
        super().__init__(**options)
        self.degrees = as_range(degrees, "degrees", low=-360, high=360, centre=0.0)
        self.scale = as_range((1.0, 1.0) if scale is None else scale, "scale", low=0.01, high=100)
        self.shear = as_range(0.0 if shear is None else shear, "shear", low=-80, high=80, centre=0.0)
        if translate is not None and len(translate) != 2:
            raise ConfigurationError(
                f"translate={list(translate)} is a pair of fractions: of the width, of the height", argument="translate"
            )
        self.translate = (0.0, 0.0) if translate is None else (float(translate[0]), float(translate[1]))
        if not all(0 <= fraction <= 1 for fraction in self.translate):
            raise ConfigurationError(
                f"translate={list(self.translate)} are fractions of the tile, 0..1", argument="translate"
            )
        given = {"translate": translate, "scale": scale, "shear": shear}
        self.flags = {
            "degrees": self.degrees,
            **{name: getattr(self, name) for name, value in given.items() if value is not None},
        }

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        across, down = self.translate
        return {
            "degrees": draws.uniform(*self.degrees),
            "scale": draws.log_uniform(*self.scale),
            "shear": draws.uniform(*self.shear),
            "translate_x": draws.uniform(-across, across) * shape.size.width,
            "translate_y": draws.uniform(-down, down) * shape.size.height,
        }

    def shrinkage(self, size: Size) -> float:
        slant = max(abs(math.tan(math.radians(angle))) for angle in self.shear)
        return max((1 + slant) / self.scale[0], 1.0)

    def matrix(self, params: Params, shape: TileShape) -> Matrices:
        names = ("degrees", "scale", "shear", "translate_x", "translate_y")
        degrees, scale, shear, right, down = (params[name].double() for name in names)
        slanted, moved = self.shear != (0.0, 0.0), self.translate != (0.0, 0.0)
        return matrices.turned(degrees, shape.size, scale, shear if slanted else None, (right, down) if moved else None)


class _Placement(GeometricOperation):
    """A window of a given size, placed over the tile: a move by whole pixels."""

    def __init__(self, size: int | Sequence[int], **options: Unpack[BatchOptions]) -> None:
        super().__init__(p=1.0, **options)
        self.size = as_size(size, "size")
        self.flags = {"size": list(self.size)}

    def output_size(self, size: Size) -> Size:
        return self.size

    def matrix(self, params: Params, shape: TileShape) -> Matrices:
        return matrices.translation(-params["left"].double(), -params["top"].double())

    def slack(self, shape: TileShape) -> Size:
        """Rows and columns by which the tile exceeds the window; refused where the window is larger."""
        down, across = shape.size.height - self.size.height, shape.size.width - self.size.width
        if down < 0 or across < 0:
            raise ConfigurationError(
                f"{type(self).__name__}: the window {self.size.height}x{self.size.width} is larger than the tile "
                f"{shape.size.height}x{shape.size.width}; put PadTo or Resize before it, or cut larger tiles"
            )
        return Size(down, across)


class RandomCrop(_Placement):
    """A window of `size` pixels anywhere inside the tile, at whole pixels. Exact, bit for bit.

    Args:
        size: one number or (height, width), pixels.
        **options: see `BatchOptions`.
    """

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        down, across = self.slack(shape)
        return {"top": draws.integer(down + 1), "left": draws.integer(across + 1)}


class CenterCrop(_Placement):
    """The window of `size` pixels in the middle of the tile. Exact, bit for bit.

    Args:
        size: one number or (height, width), pixels.
        **options: see `BatchOptions`.
    """

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        down, across = self.slack(shape)
        return _whole(shape, down // 2, across // 2)


class PadTo(_Placement):
    """The tile in the middle of a frame of at least its size; what is added is invalid (or the tile's context).

    Args:
        size: one number or (height, width), pixels.
        **options: see `BatchOptions`.
    """

    def output_size(self, size: Size) -> Size:
        return Size(max(size.height, self.size.height), max(size.width, self.size.width))

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        height, width = self.output_size(shape.size)
        return _whole(shape, -((height - shape.size.height) // 2), -((width - shape.size.width) // 2))


class Resize(GeometricOperation):
    """Stretch the tile to `size` pixels; the ground sampling distance changes with it.

    Args:
        size: one number or (height, width), pixels.
        **options: see `BatchOptions`.
    """

    def __init__(self, size: int | Sequence[int], **options: Unpack[BatchOptions]) -> None:
        super().__init__(p=1.0, **options)
        self.size = as_size(size, "size")
        self.flags = {"size": list(self.size)}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        return {}

    def output_size(self, size: Size) -> Size:
        return self.size

    def shrinkage(self, size: Size) -> float:
        return max(size.height / self.size.height, size.width / self.size.width, 1.0)

    def matrix(self, params: Params, shape: TileShape) -> Matrices:
        linear = torch.zeros(shape.batch, 2, 2, dtype=torch.float64, device=shape.device)
        linear[:, 0, 0] = self.size.width / shape.size.width
        linear[:, 1, 1] = self.size.height / shape.size.height
        return matrices.about_centre(linear, shape.size, self.size)


class RandomResizedCrop(Resize):
    """A window of random area and shape, stretched to `size` pixels.

    Args:
        size: of the output, one number or (height, width), pixels.
        scale: range of the window's area as a fraction of the tile's.
        ratio: range of the window's width over its height; its logarithm is uniform.
        **options: see `BatchOptions`.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.5, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        **options: Unpack[BatchOptions],
    ) -> None:
        super().__init__(size, **options)
        self.scale = as_range(scale, "scale", low=1e-4, high=1)
        self.ratio = as_range(ratio, "ratio", low=0.01, high=100)
        self.flags = {**self.flags, "scale": self.scale, "ratio": self.ratio}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        height, width = shape.size
        area = draws.uniform(*self.scale) * height * width
        ratio = draws.log_uniform(*self.ratio)
        across = (area * ratio).sqrt().clamp(1, width)
        down = (area / ratio).sqrt().clamp(1, height)
        return {
            "height": down,
            "width": across,
            "top": draws.uniform() * (height - down),
            "left": draws.uniform() * (width - across),
        }

    def matrix(self, params: Params, shape: TileShape) -> Matrices:
        linear = torch.zeros(shape.batch, 2, 2, dtype=torch.float64, device=params["width"].device)
        linear[:, 0, 0] = self.size.width / params["width"].double()
        linear[:, 1, 1] = self.size.height / params["height"].double()
        # The window's centre, measured from the tile's, comes to the middle of the output.
        across = params["left"] + params["width"] / 2 - shape.size.width / 2
        down = params["top"] + params["height"] / 2 - shape.size.height / 2
        centred = matrices.translation(-across.double(), -down.double())
        return matrices.quantised(matrices.about_centre(linear, shape.size, self.size) @ centred)


def _whole(shape: TileShape, top: int, left: int) -> dict[str, Tensor]:
    return {
        "top": torch.full((shape.batch,), top, device=shape.device),
        "left": torch.full((shape.batch,), left, device=shape.device),
    }

"""A batch dict: reading and checking what `Compose` accepts, and what follows its pixels without being one.

Geotransforms, boxes and the azimuths of sun and sensor move with the pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoaug.augment.kernels.sampling import Pixels
from geoaug.augment.planning import matrices
from geoaug.augment.planning.matrices import Size
from geoaug.augment.planning.plan import Plan
from geoaug.errors import ConfigurationError

IMAGE_DTYPES = (
    torch.uint8,
    torch.uint16,
    torch.int16,
    torch.float16,
    torch.bfloat16,
    torch.float32,
)
_MASK_DTYPES = (torch.uint8, torch.int8, torch.uint16, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, slots=True)
class Tiles:
    """The tensors of a batch that change, in the shape that executors work in.

    Attributes:
        pixels: image (b, dates*bands, h, w), valid (b, 1, h, w), mask (b, h, w), dem (b, 1, h, w); None where absent.
        bands: per date.
        dates: of a time series; None for a plain image.
    """

    pixels: Pixels
    bands: int
    dates: int | None

    @property
    def size(self) -> Size:
        """Height and width of the image."""
        return Size(*self.pixels.image.shape[-2:])


def read_tiles(batch: Mapping[str, Any], ignore_index: int) -> Tiles:
    """Check a batch and take out what changes.

    Args:
        batch: see the keys in the documentation of `Compose`.
        ignore_index: label that must fit the mask's dtype.
    """
    image = batch.get("image")
    if not isinstance(image, Tensor):
        keys = ", ".join(map(str, batch))
        raise ConfigurationError(f"a batch is a dict with a tensor under 'image'; this one has: {keys or 'nothing'}")
    if image.dim() not in (4, 5):
        raise ConfigurationError(f"'image' is (B, C, H, W) or (B, T, C, H, W); this one is {tuple(image.shape)}")
    if image.dtype not in IMAGE_DTYPES:
        names = " ".join(str(dtype).removeprefix("torch.") for dtype in IMAGE_DTYPES)
        raise ConfigurationError(f"'image' is {image.dtype}; supported are {names}: convert it first")
    dates = image.shape[1] if image.dim() == 5 else None
    bands = image.shape[-3]
    image = image.detach()  # no gradient flows through an augmentation
    image = image if dates is None else image.flatten(1, 2)
    grid = (image.shape[0], *image.shape[-2:])
    pixels = Pixels(image, _valid(batch, grid), _mask(batch, grid, ignore_index), _dem(batch, grid))
    return Tiles(pixels, bands, dates)


def _dem(batch: Mapping[str, Any], grid: tuple[int, ...]) -> Tensor | None:
    dem = batch.get("dem")
    if dem is None:
        return None
    wanted = (grid[0], 1, *grid[1:])
    if not isinstance(dem, Tensor) or not dem.is_floating_point() or tuple(dem.shape) != wanted:
        raise ConfigurationError(
            f"'dem' is a floating tensor {wanted} of elevations in metres for this image, not {_describe(dem)}"
        )
    return dem.float()


def _valid(batch: Mapping[str, Any], grid: tuple[int, ...]) -> Tensor | None:
    valid = batch.get("valid")
    if valid is None:
        return None
    wanted = (grid[0], 1, *grid[1:])
    if not isinstance(valid, Tensor) or valid.dtype != torch.bool or tuple(valid.shape) != wanted:
        raise ConfigurationError(f"'valid' is a bool tensor {wanted} for this image, not {_describe(valid)}")
    return valid


def _mask(batch: Mapping[str, Any], grid: tuple[int, ...], ignore_index: int) -> Tensor | None:
    mask = batch.get("mask")
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dtype not in _MASK_DTYPES:
        raise ConfigurationError(f"'mask' is an integer tensor of class labels, not {_describe(mask)}")
    if tuple(mask.shape) not in (grid, (grid[0], 1, *grid[1:])):
        raise ConfigurationError(f"'mask' is {grid} for this image, not {tuple(mask.shape)}")
    limits = torch.iinfo(mask.dtype)
    if not limits.min <= ignore_index <= limits.max:
        raise ConfigurationError(
            f"ignore_index={ignore_index} does not fit a {mask.dtype} mask; choose another ignore_index or a wider mask"
        )
    return mask.reshape(grid)


def _describe(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def restored(batch: Mapping[str, Any], pixels: Pixels, tiles: Tiles) -> dict[str, Any]:
    """Images and masks in the rank they came in."""
    image = pixels.image
    if tiles.dates is not None:
        image = image.reshape(image.shape[0], tiles.dates, tiles.bands, *image.shape[-2:])
    out: dict[str, Any] = {"image": image, "valid": pixels.valid}
    if pixels.mask is not None:
        out["mask"] = pixels.mask[:, None] if batch["mask"].dim() == 4 else pixels.mask
    if pixels.dem is not None:
        out["dem"] = pixels.dem
    if pixels.cloud is not None:
        out["cloud"] = pixels.cloud if tiles.dates is not None else pixels.cloud[:, 0]
    return out


_PER_SAMPLE = (
    "image",
    "valid",
    "mask",
    "transform",
    "sun_azimuth",
    "sun_elevation",
    "view_azimuth",
    "view_zenith",
    "dem",
    "cloud",
    "key",
)


def batched(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A sample as a batch of one. A mask (1, H, W) keeps its first dimension for a channel."""
    batch = dict(sample)
    for name in _PER_SAMPLE:
        if sample.get(name) is not None:
            value = sample[name]
            # Numbers of a geotransform in float32 would lose metres.
            dtype = torch.float64 if name == "transform" and not isinstance(value, Tensor) else None
            batch[name] = torch.as_tensor(value, dtype=dtype)[None]
    if sample.get("bbox_xyxy") is not None:
        batch["bbox_xyxy"] = [sample["bbox_xyxy"]]
    return batch


def unbatched(batch: dict[str, Any]) -> dict[str, Any]:
    """The only sample of a batch."""
    sample = dict(batch)
    for name in (*_PER_SAMPLE, "bbox_xyxy"):
        if batch.get(name) is not None:
            sample[name] = batch[name][0]
    return sample


def moved_with(batch: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """What follows the pixels: geotransform, boxes, the sun's azimuth."""
    matrix = plan.matrix
    moved: dict[str, Any] = {}
    transform = batch.get("transform")
    if transform is not None:
        wanted = isinstance(transform, Tensor) and transform.dtype == torch.float64
        if not wanted or transform.shape != (len(plan.key), 6):
            raise ConfigurationError(
                "'transform' is a float64 tensor (B, 6): a b c d e f of each tile (float32 loses metres)"
            )
        new = matrices.transform_geotransforms(transform.to(matrix), matrix)
        # A bent tile has no geotransform; a wrong one would be worse than none.
        moved["transform"] = new if plan.keeps_place else torch.full_like(new, torch.nan)
    boxes = batch.get("bbox_xyxy")
    if boxes is not None:
        if len(boxes) != len(plan.key) or any(box.dim() != 2 or box.shape[1] != 4 for box in boxes):
            raise ConfigurationError(f"'bbox_xyxy' is a list of {len(plan.key)} tensors (N, 4), one for each sample")
        if not plan.keeps_place:
            raise ConfigurationError("boxes cannot follow an operation that bends the tile")
        moved["bbox_xyxy"] = matrices.transform_boxes(list(boxes), matrix, plan.size)
    for name in ("sun_azimuth", "view_azimuth"):
        if batch.get(name) is not None:
            azimuth = torch.as_tensor(batch[name], dtype=torch.float32, device=matrix.device)
            moved[name] = matrices.transform_azimuths(azimuth, matrix)
    return moved

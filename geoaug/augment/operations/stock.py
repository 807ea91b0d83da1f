"""Stock kornia operations among geoaug's own.

Rigid and affine ones give up their matrix and join the single resampling. Any other is opaque: it runs by itself on
reflectance, between two fused stages. Both draw from torch's generator, which is seeded here from each sample's key,
so that what they do depends on the sample alone; the price is a short Python loop over the samples of a batch.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import kornia.augmentation as K
import torch
from jaxtyping import Float, Int
from kornia.augmentation._2d.base import AugmentationBase2D, RigidAffineAugmentationBase2D
from kornia.augmentation.base import _BasicAugmentationBase as KorniaAugmentation
from torch import Tensor

from geoaug.augment.kernels.sampling import Pixels
from geoaug.augment.kernels.warp import inverse_support
from geoaug.augment.operations.base import TileShape
from geoaug.augment.planning.matrices import Matrices, Size, quantised
from geoaug.augment.planning.plan import Params
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import Draws

_AFFINE = (
    K.RandomHorizontalFlip,
    K.RandomVerticalFlip,
    K.RandomRotation,
    K.RandomRotation90,
    K.RandomAffine,
    K.RandomTranslate,
    K.RandomShear,
    K.CenterCrop,
    K.RandomCrop,
    K.RandomResizedCrop,
    K.Resize,
)
_SIZED = (K.CenterCrop, K.RandomCrop, K.RandomResizedCrop, K.Resize)

# Parameters worth recording are a few numbers a sample; noise fields are not.
_MOST_RECORDED = 16


def is_affine(module: KorniaAugmentation) -> bool:
    """Whether a stock operation can join the single resampling: a bilinear matrix with nothing put around the image."""
    flags = module.flags
    if type(module) not in _AFFINE or any(flags.get(name) for name in ("padding", "pad_if_needed", "antialias")):
        return False
    padding, resample = flags.get("padding_mode", "zeros"), flags.get("resample")
    outside = str(getattr(padding, "name", padding)).lower()
    return outside in ("zeros", "constant") and (resample is None or resample.name == "BILINEAR")


def _seeds(module: KorniaAugmentation, draws: Draws) -> Int[Tensor, " b"]:
    seeds = draws.seeds()
    return seeds[:1].expand(len(seeds)).clone() if module.same_on_batch and len(seeds) else seeds


def _record(recorded: dict[str, list[Tensor]], drawn: dict[str, Any]) -> None:
    """Keep the parameters that are a few numbers."""
    for name, value in drawn.items():
        if torch.is_tensor(value) and name != "forward_input_shape" and value.numel() <= _MOST_RECORDED:
            recorded.setdefault(name, []).append(value.double().reshape(1, -1))


def _columns(recorded: dict[str, list[Tensor]], batch: int, device: torch.device) -> Params:
    """Recorded parameters as rows; one that only some samples have, or of other lengths, is left out."""
    whole = {name: rows for name, rows in recorded.items() if len(rows) == batch and len({r.shape for r in rows}) == 1}
    return {name: torch.cat(rows).to(device) for name, rows in whole.items()}


# Torch's generator and the parameters that kornia leaves on a module belong to the whole process.
_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global generators seeded for the block, and put back as they were after it; one thread at a time."""
    devices = [device] if device.type == "cuda" else []
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield


def _matrix_of(module: KorniaAugmentation, pixels: Tensor, drawn: dict[str, Any]) -> Tensor:
    assert isinstance(module, RigidAffineAugmentationBase2D)
    return module.generate_transformation_matrix(pixels, drawn, module.flags)


@dataclass(frozen=True)
class StockAffine:
    """A stock operation that is a matrix: what `Compose` needs of it."""

    module: KorniaAugmentation

    def sample(self, draws: Draws, shape: TileShape) -> Params:
        """Matrices, and the numbers they came from."""
        pixels = torch.empty((), dtype=torch.float64).expand(1, shape.bands, *shape.size)
        matrix: list[Tensor] = []
        recorded: dict[str, list[Tensor]] = {}
        for seed in _seeds(self.module, draws).tolist():
            with seeded(seed, torch.device("cpu")):
                drawn: dict[str, Any] = self.module.forward_parameters(tuple(pixels.shape))
            drawn = {
                name: value.double() if torch.is_tensor(value) and value.is_floating_point() else value
                for name, value in drawn.items()
            }
            matrix.append(_matrix_of(self.module, pixels, drawn))
            _record(recorded, drawn)
        rows = _columns(recorded, shape.batch, shape.device)
        stacked = torch.cat(matrix).double() if matrix else torch.empty(0, 3, 3, dtype=torch.float64)
        gate = rows.pop("batch_prob", torch.ones(shape.batch, 1, dtype=torch.float64))[:, 0]
        return {**rows, "matrix": quantised(stacked).to(shape.device), "batch_prob": gate}

    def gated_matrix(self, params: Params, shape: TileShape) -> Matrices:
        """The matrices, kornia's gate included."""
        return params["matrix"]

    def output_size(self, size: Size) -> Size:
        """The size that a crop or resize asks for; the input's otherwise."""
        if not isinstance(self.module, _SIZED):
            return size
        if self.module.p_batch != 1.0 or self.module.p != 1.0:
            raise ConfigurationError(f"kornia.{type(self.module).__name__} changes the tile's size: it needs p=1")
        wanted = self.module.flags["size"]
        if isinstance(wanted, int):
            raise ConfigurationError(f"kornia.{type(self.module).__name__}: give size as (height, width)")
        return Size(*wanted)


@dataclass(frozen=True)
class Opaque:
    """A stock operation that needs the pixels themselves."""

    module: KorniaAugmentation

    def __post_init__(self) -> None:
        if isinstance(self.module, K.MixAugmentationBaseV2):
            raise ConfigurationError(
                f"kornia.{self.name} mixes samples and cannot be part of Compose; apply it to the batch afterwards"
            )

    @property
    def name(self) -> str:
        """Class name of the operation."""
        return type(self.module).__name__

    @property
    def geometric(self) -> bool:
        """Whether it moves pixels (elastic, perspective, ...): masks and validity must follow."""
        return isinstance(self.module, AugmentationBase2D) and not isinstance(
            self.module, K.IntensityAugmentationBase2D
        )

    def sample(self, draws: Draws, shape: TileShape) -> Params:
        """Seeds, whether the operation applies, and those of its parameters that are a few numbers."""
        seeds = _seeds(self.module, draws)
        recorded: dict[str, list[Tensor]] = {}
        for seed in seeds.tolist():
            with seeded(seed, torch.device("cpu")):
                _record(recorded, self.module.forward_parameters((1, shape.bands, *shape.size)))
        rows = _columns(recorded, shape.batch, shape.device)
        gate = rows.pop("batch_prob", torch.ones(shape.batch, 1, dtype=torch.float64))[:, 0]
        return {"seed": seeds, **rows, "batch_prob": gate}

    def apply(self, pixels: Pixels, seeds: Int[Tensor, " b"], ignore_index: int, min_support: float) -> Pixels:
        """Run it on reflectance, sample by sample.

        Args:
            pixels: float32 image (b, c, h, w), `valid`, labels.
            seeds: one per sample.
            ignore_index: label of pixels without a label.
            min_support: share of valid weight below which a pixel is invalid.
        """
        assert pixels.valid is not None
        images, valids, masks = [], [], []
        for row, seed in enumerate(seeds.tolist()):
            one = slice(row, row + 1)
            mask = None if pixels.mask is None else pixels.mask[one]
            run = self._move if self.geometric else self._change
            # Half precision in a context manager around training is not for pixels.
            with seeded(seed, pixels.image.device), torch.autocast(pixels.image.device.type, enabled=False):
                try:
                    image, valid, mask = run(pixels.image[one], pixels.valid[one], mask, ignore_index, min_support)
                except torch.OutOfMemoryError:
                    raise
                except (NotImplementedError, ValueError, TypeError, RuntimeError) as error:
                    what = str(error) or "it has no way to move masks"
                    raise ConfigurationError(f"kornia.{self.name} cannot work on this batch: {what}") from error
            if image.shape != pixels.image[one].shape:
                raise ConfigurationError(
                    f"kornia.{self.name} changes the tile from {tuple(pixels.image.shape[-2:])} to "
                    f"{tuple(image.shape[-2:])}; use geoaug's PadTo, Resize or crops instead"
                )
            images.append(image)
            valids.append(valid)
            masks.append(mask)
        if not images:
            return pixels
        joined = None if pixels.mask is None else torch.cat([mask for mask in masks if mask is not None])
        return Pixels(torch.cat(images), torch.cat(valids), joined)

    def _change(
        self,
        image: Float[Tensor, "1 c h w"],
        valid: Tensor,
        mask: Tensor | None,
        ignore_index: int,
        min_support: float,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        # What stands in invalid pixels may reach their neighbours (a blur): the mean of the band disturbs least.
        count = valid.sum().clamp_min(1)
        mean = torch.where(valid, image, 0.0).sum((-2, -1), keepdim=True) / count
        changed: Tensor = self.module(torch.where(valid, image, mean))
        return changed, valid, mask

    def _move(
        self,
        image: Float[Tensor, "1 c h w"],
        valid: Tensor,
        mask: Tensor | None,
        ignore_index: int,
        min_support: float,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        weight = valid.to(image)
        moved = self.module(torch.cat((image * weight, weight), dim=1))
        values, support = moved[:, :-1], moved[:, -1:]
        valid = support >= min_support
        if mask is not None:
            # Kornia fills with 0, which is a class: count from 1 while it works.
            shifted = torch.where(mask == ignore_index, 0, mask.long() + 1).double()[:, None]
            assert isinstance(self.module, AugmentationBase2D)
            params = self.module._params
            matrix = getattr(self.module, "transform_matrix", None)  # an elastic bend has none
            moved_labels = self.module.transform_masks(shifted, params, self.module.flags, matrix)
            labels = moved_labels[:, 0].round().long()
            mask = torch.where((labels == 0) | ~valid[:, 0], ignore_index, labels - 1).to(mask.dtype)
        return values * inverse_support(support, min_support), valid, mask

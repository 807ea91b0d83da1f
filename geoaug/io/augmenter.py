"""Augmenting tiles of any scenes in batches: one `Compose` for scenes that are alike, arrays in and arrays out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from affine import Affine

from geoaug.augment.compose import Compose
from geoaug.augment.recipe import Recipe
from geoaug.errors import ConfigurationError
from geoaug.io.intake import JobScene
from geoaug.io.job import AugmentJob
from geoaug.io.output import OutputTile
from geoaug.io.source_tiles import SourceTile
from geoaug.rng.draws import sample_keys, stable_id
from geoaug.scratch import scratch

# Of the pixels as stored. A batch of this size is kept in memory from one to the next.
_BATCH_BYTES = 64 * 2**20
_LARGEST_BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class SharedCompose:
    """What scenes of the same bands, pixel type, fill value and type of labels are augmented by.

    Attributes:
        compose: in digital numbers, giving tiles of the job's size.
        context: pixels around a tile that it reaches into.
        batch_size: augmented tiles at once.
    """

    compose: Compose
    context: int
    batch_size: int


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One copy to be made of a tile that was read."""

    scene: JobScene
    tile: SourceTile
    copy: int


class Augmenter:
    """Makes augmented tiles from tiles as read; which of them meet in a batch changes none."""

    def __init__(self, job: AugmentJob, recipe: Recipe) -> None:
        self._job = job
        self._recipe = recipe
        self.device = choose_device(job.device)
        self._shared: dict[tuple[Any, ...], SharedCompose] = {}

    def compose_for(self, scene: JobScene) -> SharedCompose:
        """What augments the tiles of a scene; raises `ConfigurationError` where the recipe does not suit it."""
        pixels = scene.pixels
        identity = (scene.sensor, pixels.working.name, repr(pixels.working_fill), scene.label_dtype)
        if identity not in self._shared:
            compose = self._recipe.compose(
                sensor=scene.sensor,
                size=self._recipe.size or self._job.tile,
                normalize=None,  # files hold digital numbers, whatever training makes of them
                out_units="dn",
                out_dtype=None,
                fill=pixels.working_fill,
                reserve_fill=True,
                ignore_index=self._job.ignore_index,
            )
            if not compose.keeps_place:
                raise ConfigurationError(
                    f"recipe '{self._recipe.name}': an operation bends the tile, which no geotransform describes any "
                    "more; such operations are for training, not for tiles that are written"
                )
            context = compose.required_context(self._job.tile)
            self._shared[identity] = SharedCompose(
                compose.train(), context, self._batch_size(len(scene.sensor) * pixels.working.itemsize, context)
            )
        return self._shared[identity]

    def augment(self, shared: SharedCompose, samples: Sequence[Sample]) -> list[OutputTile]:
        """The augmented tiles of samples of scenes that are alike, in their order."""
        batch = self._batch(samples)
        with torch.inference_mode():
            plan = shared.compose.plan(batch, shared.context)
            out = shared.compose.apply(batch, plan)
        parameters = plan.parameters()
        image, valid = out["image"].cpu().numpy(), out["valid"][:, 0].cpu().numpy()
        mask = None if "mask" not in out else out["mask"].cpu().numpy()
        cloud = None if "cloud" not in out else out["cloud"].cpu().numpy()
        transforms, keys = out["transform"].tolist(), batch["key"].tolist()
        return [
            OutputTile(
                scene=sample.scene,
                window=sample.tile.window,
                copy=sample.copy,
                key=int(keys[index]),
                image=image[index],
                valid=valid[index],
                mask=None if mask is None else mask[index],
                transform=Affine(*transforms[index]),
                parameters=parameters[index],
                cloud=None if cloud is None else cloud[index],
            )
            for index, sample in enumerate(samples)
        ]

    def original(self, scene: JobScene, tile: SourceTile) -> OutputTile:
        """A tile as it was read, as copy 0."""
        valid = tile.valid[tile.core]
        mask = None
        if tile.labels is not None:
            mask = np.where(valid, tile.labels[tile.core], tile.labels.dtype.type(self._job.ignore_index))
        return OutputTile(
            scene=scene,
            window=tile.window,
            copy=0,
            key=int(self._keys([Sample(scene, tile, 0)])[0]),
            image=tile.image[:, *tile.core],
            valid=valid,
            mask=mask,
            transform=tile.core_transform,
            parameters={},
        )

    def _batch(self, samples: Sequence[Sample]) -> dict[str, Any]:
        tiles = [sample.tile for sample in samples]
        batch: dict[str, Any] = {
            "image": _stacked("tile images", [tile.working for tile in tiles]),
            "valid": _stacked("tile validity", [tile.valid for tile in tiles])[:, None],
            "transform": torch.tensor([tile.transform[:6] for tile in tiles], dtype=torch.float64),
            "key": self._keys(samples),
        }
        labels = [tile.labels for tile in tiles if tile.labels is not None]
        if labels:
            batch["mask"] = _stacked("tile labels", labels)
        moved = {name: value.to(self.device) for name, value in batch.items()}
        return {**moved, "band_resampling": [sample.scene.view.band_resampling for sample in samples]}

    def _keys(self, samples: Sequence[Sample]) -> torch.Tensor:
        identities = [
            stable_id(sample.scene.record.id, sample.tile.window.row, sample.tile.window.col, sample.copy)
            for sample in samples
        ]
        return sample_keys(self._job.seed, identities)

    def _batch_size(self, pixel_bytes: int, context: int) -> int:
        if self._job.batch_size is not None:
            return self._job.batch_size
        side = self._job.tile + 2 * context
        return max(1, min(_LARGEST_BATCH, _BATCH_BYTES // (pixel_bytes * side * side)))


def _stacked(name: str, arrays: Sequence[npt.NDArray[Any]]) -> torch.Tensor:
    """Arrays as one tensor, in memory that the next batch uses again: fresh pages cost more than the copying."""
    first = torch.from_numpy(arrays[0])
    out = scratch(name, (len(arrays), *first.shape), first.dtype, torch.device("cpu"))
    np.stack(arrays, out=out.numpy())
    return out


def choose_device(name: str) -> torch.device:
    """The device that a job names; "auto" is CUDA where there is one. Raises `ConfigurationError`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigurationError(f"device {name!r} is not known: choose auto, cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigurationError(f"device {name!r} is not supported: choose auto, cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(f"device {name!r} is not here: torch finds {torch.cuda.device_count()} CUDA devices")
    return device

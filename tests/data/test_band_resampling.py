"""Tiles tell how coarse bands came to their pixels, and `Compose` draws noise the same way."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affine import Affine
from scenes import PLACE, catalog_of, numbers, scene_of, write_raster

from geoaug import Compose, get_sensor
from geoaug.augment import RandomSensorNoise
from geoaug.data import Catalog, TileDataset, TileRef, collate_tiles
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys

FINE_AND_COARSE = get_sensor("sentinel-2-l1c").select(["B02", "B05"])


def tiles(folder: Path, resampling: str) -> dict[str, Any]:
    """Two tiles of a scene with a band of 10 m and one of 20 m."""
    fine = write_raster(folder / "fine.tif", numbers((1, 120, 120)))
    coarse = write_raster(folder / "coarse.tif", numbers((1, 60, 60), seed=1), transform=PLACE * Affine.scale(2))
    with TileDataset(Catalog.from_records([scene_of(fine, coarse)]), 48, resampling=resampling) as dataset:
        return dataset.read([TileRef(0, 0, 0), TileRef(0, 20, 20)])


def noise(batch: dict[str, Any], **more: Any) -> np.ndarray:
    image = torch.full((2, 2, 48, 48), 2000.0)
    # Pixels of 10 m: that of the made files is of no account here.
    place = torch.tensor([[10.0, 0, 0, 0, -10, 0]], dtype=torch.float64).expand(2, 6)
    told = {**batch, "image": image, "transform": place, "key": sample_keys(0, range(2))}
    told = {name: told[name] for name in ("image", "transform", "key", "band_resampling") if name in told}
    compose = Compose([RandomSensorNoise((1, 1), p=1.0)], sensor=FINE_AND_COARSE, executor="torch", **more)
    found: np.ndarray = compose(told)["image"].numpy()
    return found


@pytest.mark.parametrize(
    ("resampling", "kernel"),
    [
        ("nearest", "nearest"),
        ("bilinear", "bilinear"),
        ("cubic", "cubic"),
        ("cubic_spline", "cubic"),
        ("lanczos", "cubic"),
        ("average", "nearest"),
    ],
)
def test_noise_is_interpolated_as_the_bands_were(tmp_path: Path, resampling: str, kernel: str) -> None:
    batch = tiles(tmp_path, resampling)
    assert batch["band_resampling"] == [kernel] * 2
    followed = noise(batch)
    assert np.array_equal(followed, noise({}, band_resampling=kernel))
    # A user's own word counts more than the reader's.
    other = "bilinear" if kernel != "bilinear" else "nearest"
    overruled = noise(batch, band_resampling=other)
    assert np.array_equal(overruled, noise({}, band_resampling=other))
    assert not np.array_equal(overruled[:, 1], followed[:, 1])


def test_where_nobody_knows_it_is_cubic(tmp_path: Path) -> None:
    stacked = write_raster(tmp_path / "stack.tif", numbers((2, 120, 120)))
    with TileDataset(catalog_of(stacked), 48, resampling="nearest") as dataset:
        batch = dataset.read([TileRef(0, 0, 0), TileRef(0, 20, 20)])
        samples = collate_tiles([dataset[0], dataset[1]])
    assert batch["band_resampling"] == samples["band_resampling"] == ["cubic"] * 2
    assert np.array_equal(noise({}), noise({}, band_resampling="cubic"))


def test_samples_may_differ_and_mistakes_are_named() -> None:
    mixed = noise({"band_resampling": ["nearest", "cubic"]})
    assert np.array_equal(mixed[0], noise({"band_resampling": "nearest"})[0])
    assert np.array_equal(mixed[1], noise({"band_resampling": "cubic"})[1])
    for told in (["nearest"], ["nearest", "soft"], "soft"):
        with pytest.raises(ConfigurationError, match="band_resampling"):
            noise({"band_resampling": told})


def test_a_series_keeps_its_samples_kernels() -> None:
    dates = torch.full((2, 3, 2, 32, 32), 2000.0)
    batch = {"image": dates, "key": sample_keys(0, range(2)), "band_resampling": ["nearest", "bilinear"]}
    compose = Compose([RandomSensorNoise((1, 1), p=1.0)], sensor=FINE_AND_COARSE, executor="torch")
    together = compose(batch)["image"]
    for number, name in enumerate(batch["band_resampling"]):
        alone = {"image": dates[:1], "key": batch["key"][number : number + 1], "band_resampling": name}
        assert torch.equal(compose(alone)["image"][0], together[number])

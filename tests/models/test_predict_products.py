"""Products as they are shipped, predicted as training reads them: resolutions, scaling and quality layers."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import torch
from products import SIDE, make_landsat, make_safe, zip_safe
from rasterio.warp import Resampling, reproject
from torch import Tensor, nn

from geoaug import get_sensor
from geoaug.data import Catalog, TileDataset
from geoaug.errors import ConfigurationError
from geoaug.models import Architecture, ClassName, ModelCard, predict_scene
from geoaug.models.networks.model_file import LoadedModel
from geoaug.models.predict.trained_gsd import trained_gsd

BANDS = ("B02", "B08", "B11")
OTHERS = [name for name in get_sensor("sentinel-2-l2a").band_names if name not in BANDS]
OFFSETS = np.array([-999, -1000, -1000])  # as `make_safe` has them
MEAN, STD, WEIGHTS = (0.1, 0.2, 0.3), (0.05, 0.1, 0.2), (3.0, 2.0, -1.0)


class Weighted(nn.Module):
    """A sum of the bands with weights."""

    def forward(self, image: Tensor) -> Tensor:
        return (image * torch.tensor(WEIGHTS[: image.shape[1]])[:, None, None]).sum(1, keepdim=True)


class Around(nn.Module):
    """Three classes by what lies around a pixel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image)


def model_of(bands: tuple[str, ...] = BANDS, sensor: str = "sentinel-2-l2a", **facts: Any) -> LoadedModel:
    card = ModelCard(
        Architecture("resnet18", len(bands), 1, decoder="unet"), get_sensor(sensor).select(list(bands)), "regression",
        mean=MEAN[: len(bands)], std=STD[: len(bands)], gsd_m=10.0, tile_size=64,
    )  # fmt: skip
    return LoadedModel(Weighted(), replace(card, **facts))


def answer_of(reflectance: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What `Weighted` says of (bands, rows, columns)."""
    mean, std, weights = (np.array(one)[: len(reflectance), None, None] for one in (MEAN, STD, WEIGHTS))
    return np.asarray(((reflectance - mean) / std * weights).sum(0))


def read(path: Path | None) -> npt.NDArray[Any]:
    assert path is not None
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@pytest.fixture(scope="module")
def classes() -> npt.NDArray[np.uint8]:
    """Clouds, shadow and saturation among vegetation; snow, which is ground."""
    found = np.full((SIDE // 2, SIDE // 2), 4, np.uint8)
    found[10:20, 5:30], found[30:34, 40:50], found[50, 50], found[55:58] = 9, 3, 1, 11
    return found


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory, classes: npt.NDArray[np.uint8]) -> Path:
    return make_safe(tmp_path_factory.mktemp("safe"), scl=classes, leave_out=OTHERS)


@pytest.fixture(scope="module")
def stored(safe: Path) -> npt.NDArray[np.uint16]:
    """The bands on the grid of 10 m, as rasterio brings them there."""
    bands = []
    for name, gsd in (("B02", 10), ("B08", 10), ("B11", 20)):
        path = next(safe.rglob(f"*_{name}_{gsd}m.jp2"))
        with rasterio.open(path) as file, rasterio.open(next(safe.rglob("*_B02_10m.jp2"))) as like:
            band = np.zeros((SIDE, SIDE), np.uint16)
            reproject(
                file.read(1), band, src_transform=file.transform, src_crs=file.crs, dst_transform=like.transform,
                dst_crs=like.crs, src_nodata=0, dst_nodata=0, resampling=Resampling.bilinear,
            )  # fmt: skip
            bands.append(band)
    return np.stack(bands)


@pytest.fixture(scope="module")
def known(stored: npt.NDArray[np.uint16], classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Where there is data, and no cloud."""
    clear = ~np.isin(classes, (0, 1, 3, 8, 9, 10))
    return np.asarray((stored != 0).all(0) & clear.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(("tile", "batch"), [(64, 4), (48, 3), (256, 1)])
def test_a_product_is_predicted_as_rasterio_reads_it(
    safe: Path, stored: npt.NDArray[Any], known: npt.NDArray[Any], tmp_path: Path, tile: int, batch: int
) -> None:
    found = predict_scene(model_of(), safe, tmp_path, tile=tile, batch_size=batch)
    values = read(found.values)
    assert np.array_equal(np.isfinite(values), known)
    assert 0.5 < known.mean() < 0.95
    truth = answer_of((stored + OFFSETS[:, None, None]) / 10000)
    np.testing.assert_allclose(values[known], truth[known], atol=1e-4)
    with rasterio.open(found.values) as made, rasterio.open(next(safe.rglob("*_B02_10m.jp2"))) as finest:
        assert (made.crs, made.transform, made.shape) == (finest.crs, finest.transform, finest.shape)
    assert found.values == tmp_path / f"{safe.stem}_values.tif"


def test_one_raster_of_the_same_bands_gives_the_same_map(
    safe: Path, stored: npt.NDArray[Any], known: npt.NDArray[Any], tmp_path: Path
) -> None:
    stacked = tmp_path / "stacked.tif"
    with rasterio.open(next(safe.rglob("*_B02_10m.jp2"))) as like:
        place = {"crs": like.crs, "transform": like.transform}
    with rasterio.open(
        stacked, "w", driver="GTiff", count=3, height=SIDE, width=SIDE, dtype="uint16", nodata=0, **place
    ) as file:
        file.write(np.where(known, stored, 0).astype(np.uint16))
        file.descriptions = BANDS
        file.scales, file.offsets = [1e-4] * 3, list(OFFSETS * 1e-4)
    three = tuple(ClassName(name, (1, 2, 3)) for name in ("field", "wood", "lake"))
    facts = {"architecture": Architecture("resnet18", 3, 3, decoder="unet"), "task": "segmentation", "classes": three}
    model = LoadedModel(Around(), replace(model_of().card, **facts))
    first = predict_scene(model, safe, tmp_path / "a", probabilities=True)
    second = predict_scene(model, stacked, tmp_path / "b", probabilities=True)
    classes = read(first.classes)
    assert np.array_equal(classes == 255, ~known), "no map under clouds"
    assert len(np.unique(classes)) > 2
    assert np.array_equal(classes, read(second.classes))
    assert np.array_equal(read(first.probabilities), read(second.probabilities))


def test_a_zipped_product_and_a_record_give_the_same_map(safe: Path, tmp_path: Path) -> None:
    copy = tmp_path / safe.name
    shutil.copytree(safe, copy)
    record = Catalog.from_folder(safe)[0]
    maps = [
        predict_scene(model_of(), scene, tmp_path / str(number), name="m").values
        for number, scene in enumerate((safe, record, zip_safe(copy)))
    ]
    assert {path.name for path in maps if path is not None} == {"m_values.tif"}
    for other in maps[1:]:
        assert np.array_equal(read(maps[0]), read(other), equal_nan=True)
    with pytest.raises(ConfigurationError, match="this record is made"):
        predict_scene(model_of(), record, tmp_path, sensor="sentinel-2-l2a")


def test_the_map_lies_where_tiles_of_the_training_would(safe: Path, tmp_path: Path) -> None:
    catalog = Catalog.from_folder(safe)
    with TileDataset(catalog, 60, bands=list(BANDS), gsd_m=20.0) as dataset:
        tile = dataset[0]
        sensor = dataset.sensor
    # The training's width lies among those of the bands, so nothing needs to be said.
    found = predict_scene(model_of(gsd_m=20.0), safe, tmp_path)
    offset, scale = (np.array(one)[:, None, None] for one in (sensor.offset, sensor.quantification))
    truth = answer_of((tile["image"].numpy() + offset) / scale)
    valid = tile["valid"].numpy()[0]
    values = read(found.values)
    assert np.array_equal(np.isfinite(values), valid)
    np.testing.assert_allclose(values[valid], truth[valid], atol=1e-4)
    with rasterio.open(found.values) as made:
        assert made.transform[:6] == tuple(tile["transform"].tolist())


def test_a_training_by_coarse_bands_of_a_product_says_their_sampling_distance(safe: Path, tmp_path: Path) -> None:
    catalog = Catalog.from_folder(safe)
    with TileDataset(catalog, 20, bands=["B11"]) as coarse, TileDataset(catalog, 20, bands=list(BANDS)) as fine:
        assert (trained_gsd(coarse), trained_gsd(fine)) == (20.0, 10.0)
    found = predict_scene(model_of(("B11",), gsd_m=20.0), safe, tmp_path)
    assert read(found.values).shape == (SIDE // 2, SIDE // 2)


def test_another_sampling_distance_of_a_product_is_refused_unless_the_training_brought_it(
    safe: Path, tmp_path: Path
) -> None:
    two = model_of(("B02", "B08"), gsd_m=20.0)
    with pytest.raises(ConfigurationError, match=r"10 m wide, and the model was trained at 20 m.*--resample"):
        predict_scene(two, safe, tmp_path)
    told = predict_scene(two, safe, tmp_path / "told", resample=True)
    brought = model_of(("B02", "B08"), gsd_m=20.0, training={"configuration": {"data": {"gsd_m": 20.0}}})
    as_trained = predict_scene(brought, safe, tmp_path / "trained")
    own = predict_scene(two, safe, tmp_path / "own", ignore_gsd=True)
    assert read(told.values).shape == (SIDE // 2, SIDE // 2)
    assert np.array_equal(read(told.values), read(as_trained.values), equal_nan=True)
    assert read(own.values).shape == (SIDE, SIDE)


def test_landsat_is_scaled_and_masked_as_its_product_says(tmp_path: Path) -> None:
    flags = np.full((40, 40), 1 << 6, np.uint16)
    flags[3:9, 7:20] = 1 << 3  # cloud
    product = make_landsat(tmp_path, qa=flags)
    found = predict_scene(model_of(("B4", "B3", "B2"), "landsat-8-l2", gsd_m=30.0), product, tmp_path / "out")
    values = read(found.values)
    assert np.array_equal(np.isnan(values), flags == 1 << 3)
    numbers = np.array([7400.0, 7300, 7200])[:, None, None]
    np.testing.assert_allclose(values[flags != 1 << 3], answer_of(numbers * 2.75e-5 - 0.2)[0, 0], atol=1e-4)


def test_what_is_not_one_scene_with_the_bands_is_refused(tmp_path: Path) -> None:
    lacking = make_safe(tmp_path / "one", leave_out=[*OTHERS, "B11"])
    with pytest.raises(ConfigurationError, match=r"B11.*The model takes B02 B08 B11"):
        predict_scene(model_of(), lacking, tmp_path / "out")
    several = make_safe(tmp_path / "two", leave_out=OTHERS, granules=("T32UQV", "T32UPV"))
    with pytest.raises(ConfigurationError, match="holds 2 scenes"):
        predict_scene(model_of(), several, tmp_path / "out")
    for record in Catalog.from_folder(several):
        assert (
            predict_scene(model_of(), record, tmp_path / "out").values == tmp_path / "out" / f"{record.id}_values.tif"
        )

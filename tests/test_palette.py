"""Rasters with a palette: said to be classes, or expanded to the colours that pillow finds in them."""

import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from geoaug.data import Catalog, GridTileSampler, TileDataset, open_scenes
from geoaug.data.raster.overview import inspect_scene
from geoaug.errors import RasterError
from geoaug.io.augment_tiles import AugmentJob, run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A PNG of 40 x 50 numbers; 3 is transparent."""
    numbers = np.random.default_rng(0).integers(0, 9, (40, 50)).astype("uint8")
    image = Image.fromarray(numbers, "P")
    image.putpalette(np.random.default_rng(1).integers(0, 256, 768).tolist())
    image.save(tmp_path / "picture.png", transparency=3)
    return tmp_path / "picture.png"


def test_a_palette_is_said_to_be_of_classes(picture: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "geoaug"):
        Catalog.from_files([picture])
    assert "picture.png: holds classes or flags by its name or its palette, and indexed as scenes" in caplog.text
    [found] = open_scenes([picture]).scenes
    assert "expand_palette" in " ".join(inspect_scene(found.record, found.sensor, found.header).warnings)
    job = AugmentJob(
        [str(picture)], tmp_path / "out", {"operations": ["RandomD4"]}, copies=0, tile=32, include_original=True,
        device="cpu",
    )  # fmt: skip
    report = run(job)
    assert "its palette, and augmented as an image; give such rasters as labels" in " ".join(report.notes)


def test_a_palette_is_expanded_to_its_colours_where_asked(
    picture: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    colours = np.moveaxis(np.asarray(Image.open(picture).convert("RGBA")), -1, 0)
    opaque = colours[3] != 0
    assert 0 < opaque.mean() < 1
    with caplog.at_level(logging.WARNING, "geoaug"):
        Catalog.from_files([picture], expand_palette=True).save(tmp_path / "catalog.parquet")
    assert "classes" not in caplog.text
    catalog = Catalog.open(tmp_path / "catalog.parquet")
    with TileDataset(catalog, (40, 50)) as dataset:
        tile = dataset[next(iter(GridTileSampler(dataset)))]
    np.testing.assert_array_equal(tile["valid"].numpy()[0], opaque)
    np.testing.assert_array_equal(tile["image"].numpy()[:, opaque], colours[:3, opaque])
    assert Catalog.from_files([picture], expand_palette=True, refresh=catalog).notes["refreshed"]["unchanged"] == 1
    [named] = open_scenes([f"vrt://{picture}?expand=rgba"]).scenes
    assert [band.alpha for band in named.record.bands] == [4] * 3
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in (picture, tmp_path / "catalog.parquet"):
        path.rename(moved / path.name)
    with TileDataset(Catalog.open(moved / "catalog.parquet"), 32) as dataset:
        assert dataset[next(iter(GridTileSampler(dataset)))]["image"].shape == (3, 32, 32)


def test_nodata_of_a_palette_is_no_colour_and_other_rasters_are_left_as_they_are(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(0, 5, (1, 40, 40)).astype("uint8")
    table = {number: (number * 10, 200 - number, 7, 255) for number in range(5)}
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 6000000)}
    size = {"height": 40, "width": 40, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", "GTiff", photometric="palette", nodata=2, **size, **place) as file:
        file.write(numbers)
        file.write_colormap(1, table)
    with rasterio.open(tmp_path / "b.tif", "w", "GTiff", **size, **place) as file:
        file.write(numbers)
    catalog = Catalog.from_folder(tmp_path, kind="raster", expand_palette=True)
    assert [len(record.bands) for record in catalog] == [3, 1]
    for options, shape in (({}, (40, 40)), ({"gsd_m": 20, "resampling": "nearest"}, (20, 20))):
        with TileDataset(catalog.select([0]), shape, **options) as dataset:
            tile = dataset[next(iter(GridTileSampler(dataset)))]
        step = 40 // shape[0]
        at = numbers[0, step // 2 :: step, step // 2 :: step]
        valid = tile["valid"].numpy()[0]
        if step == 1:
            np.testing.assert_array_equal(valid, at != 2)
        np.testing.assert_array_equal(
            tile["image"].numpy()[:, valid], np.array([table[int(n)][:3] for n in at[valid]]).T
        )
    with pytest.raises(RasterError, match="palette cannot be expanded"):
        Catalog.from_files([f"vrt://{tmp_path / 'b.tif'}?expand=rgba"])

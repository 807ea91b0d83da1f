"""Validity is the intersection of nodata, NaN, masks and alpha: plain and warped, of any number of bands."""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp

from geoaug.data import Catalog, GridTileSampler, TileDataset, open_scenes
from geoaug.data.raster.overview import read_overview
from geoaug.errors import ConfigurationError

PLACE = Affine(10, 0, 500000, 0, -10, 6000000)
ROWS, COLS = np.s_[:20], np.s_[:20]  # of which the mask or the alpha band, and nodata, take these


def put(
    path: Path,
    array: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    alpha: bool = False,
    nodata: float | None = None,
    internal: bool = True,
) -> Path:
    size = {"count": len(array), "height": array.shape[1], "width": array.shape[2], "dtype": array.dtype.name}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
        rasterio.open(path, "w", "GTiff", crs="EPSG:32633", transform=PLACE, nodata=nodata, **size) as file,
    ):
        if alpha:
            file.colorinterp = (ColorInterp.gray, *[ColorInterp.undefined] * (len(array) - 2), ColorInterp.alpha)
        file.write(array)
        if mask is not None:
            file.write_mask(mask)
    return path


def tiles(catalog: Catalog, **options: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Scenes of 60 x 60 pixels, each read as one tile."""
    with TileDataset(catalog, round(600 / options["gsd_m"]) if options else 60, **options) as dataset:
        for tile in map(dataset.__getitem__, GridTileSampler(dataset)):
            yield tile["image"].numpy(), tile["valid"].numpy()[0]


def check(scenes: dict[Path, np.ndarray]) -> None:
    """Plain and warped, valid pixels are all 1000; the warped ones are those with a valid pixel below them.

    Args:
        scenes: where each is valid.
    """
    catalog = Catalog.from_files(list(scenes))
    for (path, valid), record, (image, found) in zip(scenes.items(), catalog, tiles(catalog), strict=True):
        np.testing.assert_array_equal(found, valid, err_msg=path.name)
        assert (image[:, found] == 1000).all(), path.name
        np.testing.assert_array_equal(read_overview(record).valid, valid, err_msg=path.name)
    for gsd_m in (15.0, 20.0):
        step, known = gsd_m / 10, {}
        for (path, valid), (image, found) in zip(scenes.items(), tiles(catalog, gsd_m=gsd_m), strict=True):
            assert (image[:, found] == 1000).all(), (path.name, np.unique(image[:, found]))
            # All that lie wholly on valid ground are valid, and none whose surroundings hold none.
            if id(valid) not in known:
                known[id(valid)] = [_each(valid, len(found), step, which) for which in (np.all, np.any)]
            below, around = known[id(valid)]
            assert found[below].all(), path.name
            assert not found[~around].any(), path.name


def check_by_bands(scenes: dict[Path, np.ndarray]) -> None:
    """Likewise, of catalogs of scenes with equally many bands of one type."""
    by_bands: dict[object, dict[Path, np.ndarray]] = {}
    for path, valid in scenes.items():
        with rasterio.open(path) as file:
            count = file.count - (file.colorinterp[-1] == ColorInterp.alpha and file.count > 1)
            by_bands.setdefault((count, file.dtypes[0]), {})[path] = valid
    for some in by_bands.values():
        check(some)


def _each(valid: np.ndarray, size: int, step: float, which: Callable[..., Any]) -> np.ndarray:
    """For each warped pixel what holds of the pixels within one of its sides."""
    spans = [slice(max(0, math.floor((at - 0.5) * step)), math.ceil((at + 1.5) * step)) for at in range(size)]
    return np.array([[which(valid[rows, cols]) for cols in spans] for rows in spans])


def test_masked_ground_is_invalid_whatever_the_number_of_bands(tmp_path: Path) -> None:
    valid = np.ones((60, 60), dtype=bool)
    valid[ROWS] = False
    scenes = {}
    for bands, internal in itertools.product((1, 3, 4, 9), (True, False)):
        image = np.where(valid, 1000, 0).astype("uint16")[None].repeat(bands, axis=0)
        path = tmp_path / f"of {bands}, {'internal' if internal else 'msk'}.tif"
        scenes[put(path, image, mask=valid, internal=internal)] = valid
    check_by_bands(scenes)


def test_a_mask_or_alpha_and_nodata_add_up(tmp_path: Path) -> None:
    """Each takes a third; the pixels below the mask hold a number, those that are nodata are not in the mask."""
    unmasked = np.ones((60, 60), dtype=bool)
    unmasked[ROWS] = False
    valid = unmasked.copy()
    valid[:, COLS] = False
    types = [("uint16", 0), ("float32", -9999), ("float32", None)]
    scenes = {}
    for bands, kind, (dtype, nodata) in itertools.product((1, 4), ("mask", "alpha"), types):
        image = np.full((bands, 60, 60), 1000, dtype)
        image[:, ROWS] = 7
        image[:, :, COLS] = np.nan if nodata is None else nodata
        path = tmp_path / f"of {bands}, {kind}, {dtype}, {nodata}.tif"
        if kind == "mask":
            scenes[put(path, image, mask=unmasked, nodata=nodata)] = valid
        else:
            opaque = np.where(unmasked, 1, 0).astype(dtype)  # as little as there is counts
            scenes[put(path, np.concatenate([image, opaque[None]]), alpha=True, nodata=nodata)] = valid
    check_by_bands(scenes)


def test_a_nodata_value_counts_in_the_band_that_holds_it_alone_when_it_is_warped(tmp_path: Path) -> None:
    image = np.full((2, 60, 60), 1000, "int16")
    image[1, :, COLS] = -1
    path = put(tmp_path / "scene.tif", image, nodata=-1)
    valid = np.ones((60, 60), dtype=bool)
    valid[:, COLS] = False
    check({path: valid})


def test_near_infrared_that_a_file_calls_alpha_is_image_where_it_is_asked_for(tmp_path: Path) -> None:
    """GDAL marks the fourth band of 8-bit files so; where it is 0, the ground is dark and not missing."""
    image = np.full((4, 60, 60), 200, "uint8")
    image[3, ROWS] = 0
    path = put(tmp_path / "scene.tif", image)
    with rasterio.open(path) as file:
        assert file.colorinterp[3] == ColorInterp.alpha
    [(masked, _)] = tiles(Catalog.from_files([path]), gsd_m=20)
    assert len(masked) == 3
    with TileDataset(Catalog.from_files([path], bands=[1, 2, 3, 4]), 30, gsd_m=20) as dataset:
        tile = dataset[next(iter(GridTileSampler(dataset)))]
    assert tile["valid"].all()
    assert (tile["image"][:3] == 200).all()
    assert set(np.unique(tile["image"][3, 15:])) == {200}
    assert (tile["image"][3, :9] == 0).all()


def test_an_alpha_band_is_kept_in_a_saved_catalog(tmp_path: Path) -> None:
    image = np.full((5, 60, 60), 1000, "uint16")
    image[4, ROWS] = 0
    catalog = Catalog.from_files([put(tmp_path / "scene.tif", image, alpha=True)])
    catalog.save(tmp_path / "catalog.parquet")
    [record] = Catalog.open(tmp_path / "catalog.parquet")
    assert [band.alpha for band in record.bands] == [5] * 4


def test_a_nodata_value_that_is_given_counts_in_place_of_the_tag(tmp_path: Path) -> None:
    image = np.full((2, 60, 60), 1000, "int16")
    image[:, ROWS], image[:, 20:30] = -1, 0
    path = put(tmp_path / "scene.tif", image, nodata=0)
    for given, invalid in (
        (None, image[0] == 0),
        (-1, image[0] == -1),
        ("-1", image[0] == -1),
        ("none", np.zeros((60, 60), dtype=bool)),
    ):
        catalog = Catalog.from_files([path], nodata=given)
        [(_, valid)] = tiles(catalog)
        np.testing.assert_array_equal(~valid, invalid)
        [(warped, valid)] = tiles(catalog, gsd_m=15)
        assert ((warped[:, valid] == 0).any(), (warped[:, valid] == -1).any()) == (
            given is not None,
            given in (None, "none"),
        )
        assert open_scenes([path], nodata=given).scenes[0].record.nodata == catalog[0].nodata
    with pytest.raises(ConfigurationError, match=r"0\.5, which no pixel of type int16 holds"):
        Catalog.from_files([path], nodata=0.5)
    with pytest.raises(ConfigurationError, match="give a number, nan, or none"):
        Catalog.from_files([path], nodata="zero")
    catalog.save(tmp_path / "catalog.parquet")
    assert Catalog.from_files([path], nodata="none", refresh=catalog).notes["refreshed"]["unchanged"] == 1
    [record] = Catalog.from_files([path], nodata=-1, refresh=catalog)
    assert record.nodata == -1
    with pytest.raises(ConfigurationError, match=r"nodata .*is settled when files are indexed"):
        open_scenes([tmp_path / "catalog.parquet"], nodata=0)


def test_a_mask_counts_beside_a_nodata_value_that_is_given(tmp_path: Path) -> None:
    image = np.full((2, 60, 60), 1000, "uint16")
    image[:, :, COLS] = 5
    unmasked = np.ones((60, 60), dtype=bool)
    unmasked[ROWS] = False
    path = put(tmp_path / "scene.tif", image, mask=unmasked, nodata=5)
    for given, valid in (("none", unmasked), (1000, unmasked & (image[0] == 5))):
        [(_, found)] = tiles(Catalog.from_files([path], nodata=given))
        np.testing.assert_array_equal(found, valid)

"""The job on real satellite rasters: every one of them, with labels where there are some."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from scipy import ndimage

from geoaug.data.raster.headers import read_header
from geoaug.data.raster.inputs import resolve_inputs
from geoaug.io import read_manifest
from geoaug.io.augment_tiles import AugmentJob, AugmentReport, run

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

GEOMETRY = {
    "interpolation": "bilinear",
    "operations": ["RandomD4", {"RandomAffine": {"degrees": 20, "scale": [0.87, 1.15], "translate": [0.05, 0.05]}}],
}
SCL = "s2-29rkh/S2A_29RKH_20200219_0_L2A/SCL.tif"
LABELLED = {
    "s2 with its scene classification": ("s2-29rkh/S2A_29RKH_20200219_B02-B03-B04-B08_100m_cog.tif", SCL, None, 128),
    "Landsat 8 with a raster": (
        "landsat8-elkton/L8-B5-Elkton-VA.tiff",
        "landsat8-elkton/L8-Labels-Elkton-VA.tiff",
        None,
        64,
    ),
    "Landsat 7 with polygons": (
        "landsat7-opengeo/LE70220491999322EDC01_stack.gtif",
        "landsat7-opengeo/training_data.shp",
        "class",
        64,
    ),
    "Landsat 7 with a raster": (
        "landsat7-opengeo/LE70220491999322EDC01_stack.gtif",
        "landsat7-opengeo/training_data.gtif",
        None,
        64,
    ),
}


def augment(scene: str, output: Path, **changes: Any) -> AugmentReport:
    arguments = {"copies": 2, "min_valid": 0.0, "device": "cpu", **changes}
    return run(AugmentJob([scene], output, **arguments))


def test_tiles_of_every_raster_hold_what_lies_at_their_place(shared_data: Path, tmp_path: Path) -> None:
    paths = resolve_inputs([str(shared_data)])
    assert len(paths) > 30
    for number, path in enumerate(paths):
        header = read_header(path)
        tile = min(64, header.height, header.width)
        stride = max(tile, min(header.height, header.width) // 2)
        output = tmp_path / str(number)
        report = augment(path, output, recipe=GEOMETRY, tile=tile, stride=stride)
        assert report.failures == (), path
        assert report.written == 2 * report.windows > 0, path
        with rasterio.open(path) as dataset:
            source, transform = dataset.read(header.band_indexes[0]), dataset.transform
        for name in read_manifest(output / "manifest.parquet")["image"]:
            with rasterio.open(output / name) as written:
                assert (written.dtypes[0], written.crs) == (header.dtype.name, header.crs)
                values, valid = written.read(1), written.read_masks(1) != 0
                cols, rows = np.meshgrid(np.arange(written.width) + 0.5, np.arange(written.height) + 0.5)
                cols, rows = ~transform * (written.transform * (cols, rows))
            expected = ndimage.map_coordinates(source.astype(float), [rows - 0.5, cols - 0.5], order=1, mode="nearest")
            if header.band_nodata[0] is not None:
                whole = ndimage.minimum_filter((source != header.band_nodata[0]).astype(np.uint8), 5, mode="constant")
                valid &= ndimage.map_coordinates(whole, [rows - 0.5, cols - 0.5], order=0, mode="constant") > 0
            inside = valid & (rows > 1) & (cols > 1) & (rows < header.height - 1) & (cols < header.width - 1)
            assert np.abs(values - expected)[inside].max(initial=0) <= 1.01, name


@pytest.mark.parametrize("case", LABELLED.values(), ids=list(LABELLED))
def test_masks_hold_the_labels_at_their_place(
    case: tuple[str, str, str | None, int], shared_data: Path, tmp_path: Path
) -> None:
    scene, labels, field, tile = case
    arguments = {"labels": shared_data / labels, "label_field": field, "tile": tile, "recipe": GEOMETRY}
    report = augment(str(shared_data / scene), tmp_path, include_original=True, **arguments)
    assert report.failures == ()
    manifest = read_manifest(tmp_path / "manifest.parquet").set_index("image")
    # The masks of the windows as they are, put together, are the labels on the scene's grid.
    with rasterio.open(shared_data / scene) as dataset:
        whole, transform = np.full((dataset.height, dataset.width), 255, dtype=np.int32), dataset.transform
    for row in manifest[manifest["copy"] == 0].itertuples():
        with rasterio.open(tmp_path / row.mask) as mask:
            whole[row.row : row.row + tile, row.col : row.col + tile] = mask.read(1)
    assert len(np.unique(whole[whole != 255])) >= 3
    borders = ndimage.maximum_filter(whole, 3) != ndimage.minimum_filter(whole, 3)
    compared = 0
    for row in manifest[manifest["copy"] > 0].itertuples():
        with rasterio.open(tmp_path / row.mask) as mask:
            found = mask.read(1).astype(np.int32)
            cols, rows = np.meshgrid(np.arange(mask.width) + 0.5, np.arange(mask.height) + 0.5)
            cols, rows = (np.floor(places).astype(int) for places in ~transform * (mask.transform * (cols, rows)))
        inside = (rows >= 0) & (cols >= 0) & (rows < whole.shape[0]) & (cols < whole.shape[1]) & (found != 255)
        certain = ~borders[rows[inside], cols[inside]]
        same = found[inside] == whole[rows[inside], cols[inside]]
        assert same[certain].mean() > 0.99 if certain.any() else True
        compared += int(certain.sum())
    assert compared > 200


def test_a_chip_inside_a_zip_archive_is_read(shared_data: Path, tmp_path: Path) -> None:
    archive = shared_data / "eurosat" / "EuroSAT_MS_subset.zip"
    with zipfile.ZipFile(archive) as content:
        name = next(item for item in sorted(content.namelist()) if item.endswith(".tif"))
    report = augment(f"/vsizip/{archive}/{name}", tmp_path, tile=64)
    assert (report.written, report.failures) == (2, ())
    assert report.sensors[0].sensor == "sentinel-2-l1c"

"""The whole job: places, bytes, values, records, failures, and being stopped."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.warp import Resampling, reproject
from scipy import ndimage

from geoaug.augment import load_recipe
from geoaug.data import open_scenes
from geoaug.data.raster.overview import read_overview
from geoaug.errors import ConfigurationError, GeoaugError
from geoaug.io import read_manifest
from geoaug.io.augment_tiles import AugmentJob, AugmentReport, Progress, run

TRANSFORM = Affine(10, 0, 500000, 0, -10, 5400000)
CRS = "EPSG:32633"
GEOMETRY = {
    "operations": [
        "RandomD4",
        {"RandomRotation": {"degrees": 30}},
        {"RandomAffine": {"scale": [0.9, 1.1], "translate": [0.05, 0.05]}},
    ]
}


def smooth_image(bands: int = 2, size: int = 192, seed: int = 0, dtype: str = "uint16") -> np.ndarray:
    """Structure of every direction at scales that interpolation keeps, within 500 to 9500."""
    noise = np.random.default_rng(seed).normal(size=(bands, size, size))
    field = np.stack([ndimage.gaussian_filter(band, 3, mode="wrap") for band in noise])
    low, high = field.min(), field.max()
    return (500 + 9000 * (field - low) / (high - low)).astype(dtype)


def blocky_labels(size: int = 192) -> np.ndarray:
    """Four classes in squares of 24 pixels, and none in the upper left corner."""
    row, col = np.indices((size, size)) // 24
    labels = ((row * 3 + col) % 4).astype(np.uint8)
    labels[:12, :12] = 255
    return labels


def write_raster(path: Path, array: np.ndarray, **profile: Any) -> Path:
    bands = array if array.ndim == 3 else array[None]
    count, height, width = bands.shape
    settings = {"crs": CRS, "transform": TRANSFORM, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=bands.dtype, **settings
    ) as dataset:
        dataset.write(bands)
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "scene.tif", smooth_image(), nodata=0)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "labels.tif", blocky_labels(), nodata=255)


@pytest.fixture
def augment(tmp_path: Path) -> Callable[..., AugmentReport]:
    """Runs a small job whose arguments can be changed one by one."""

    def do(*scenes: Path | str, **changes: Any) -> AugmentReport:
        arguments = {"output": tmp_path / "out", "tile": 64, "copies": 2, "device": "cpu", **changes}
        return run(AugmentJob(scenes=[str(scene) for scene in scenes], **arguments))

    return do


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def shift_between(first: np.ndarray, second: np.ndarray) -> float:
    """By how many pixels `second` is displaced: the least-squares solution of the optical-flow equation."""
    rows, cols = np.gradient((first + second) / 2)
    change = second - first
    inner = np.isfinite(rows) & np.isfinite(cols) & np.isfinite(change)
    design = np.stack([rows[inner], cols[inner]], axis=1)
    return float(np.hypot(*np.linalg.lstsq(design, change[inner], rcond=None)[0]))


def phase_shift(first: np.ndarray, second: np.ndarray) -> float:
    """The displacement by phase correlation: the slope of the cross-power spectrum's phase where there is power."""
    window = np.outer(np.hanning(first.shape[0]), np.hanning(first.shape[1]))
    one, other = (np.fft.fft2((part - part.mean()) * window) for part in (first, second))
    cross = one * other.conj()
    rows, cols = np.meshgrid(*(np.fft.fftfreq(side) for side in first.shape), indexing="ij")
    strong = (np.abs(cross) > 0.01 * np.abs(cross).max()) & (np.hypot(rows, cols) < 0.2)
    design = 2 * np.pi * np.stack([rows[strong], cols[strong]], axis=1) * np.abs(cross[strong])[:, None]
    return float(np.hypot(*np.linalg.lstsq(design, np.angle(cross[strong]) * np.abs(cross[strong]), rcond=None)[0]))


def test_tiles_and_masks_lie_at_their_true_place(
    scene: Path, labels: Path, augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    augment(scene, recipe=GEOMETRY, labels=labels, copies=3, include_original=True)
    source, source_labels = smooth_image().astype(np.float64), blocky_labels()
    borders = ndimage.maximum_filter(source_labels, 5) != ndimage.minimum_filter(source_labels, 5)
    checked = squares = 0
    for path in sorted((tmp_path / "out" / "images").iterdir()):
        with rasterio.open(path) as tile, rasterio.open(tmp_path / "out" / "masks" / path.name) as mask:
            assert tile.transform == mask.transform
            assert tile.crs == mask.crs == rasterio.crs.CRS.from_string(CRS)
            back = np.full(source.shape, np.nan)
            image = np.where(tile.read() == tile.nodata, np.nan, tile.read().astype(np.float64))
            common = {"src_crs": CRS, "dst_crs": CRS, "src_transform": tile.transform, "dst_transform": TRANSFORM}
            reproject(image, back, src_nodata=np.nan, dst_nodata=np.nan, resampling=Resampling.bilinear, **common)
            labels_back = np.full(source_labels.shape, 255, dtype=np.uint8)
            reproject(mask.read(1), labels_back, src_nodata=255, dst_nodata=255, **common)
        known = ndimage.binary_erosion(np.isfinite(back).all(axis=0), iterations=3)
        assert known.sum() > 1000
        # Squares around the middle of the tile in which all is known, for the phase.
        row, col = (int(middle) for middle in ndimage.center_of_mass(known))
        room = min(row, col, source.shape[1] - row, source.shape[2] - col)
        squares_known = [
            (slice(row - half, row + half), slice(col - half, col + half))
            for half in range(16, room)
            if known[row - half : row + half, col - half : col + half].all()
        ]
        for band, original in zip(back, source, strict=True):
            assert np.corrcoef(band[known], original[known])[0, 1] > 0.98
            assert shift_between(np.where(known, original, np.nan), np.where(known, band, np.nan)) < 0.1
            for square in squares_known[-1:]:
                assert phase_shift(original[square], band[square]) < 0.1
                squares += 1
        certain = known & ~borders & (labels_back != 255)
        assert (labels_back[certain] == source_labels[certain]).mean() > 0.99
        checked += 1
    assert checked == 9 * 4
    assert squares > checked


@pytest.mark.parametrize(
    "transform",
    [
        Affine.translation(500000, 5400000) * Affine.rotation(30) * Affine.scale(10, -10),
        Affine(10, 0, 500000, 0, 10, 5400000),
    ],
    ids=["rotated", "south-up"],
)
def test_scenes_on_unusual_grids_keep_their_place(
    transform: Affine, augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    scene = write_raster(tmp_path / "turned.tif", smooth_image(1), nodata=0, transform=transform)
    augment(scene, recipe={**GEOMETRY, "interpolation": "bilinear"})
    source = smooth_image(1)[0].astype(np.float64)
    for path in (tmp_path / "out" / "images").iterdir():
        with rasterio.open(path) as tile:
            values, valid = tile.read(1).astype(np.float64), tile.read_masks(1) != 0
            cols, rows = np.meshgrid(np.arange(tile.width) + 0.5, np.arange(tile.height) + 0.5)
            source_cols, source_rows = ~transform * (tile.transform * (cols, rows))
        expected = ndimage.map_coordinates(source, [source_rows - 0.5, source_cols - 0.5], order=1, mode="nearest")
        inner = valid & (source_rows > 1) & (source_cols > 1) & (source_rows < 191) & (source_cols < 191)
        assert inner.mean() > 0.5
        assert np.abs(values - expected)[inner].max() <= 1.0


@pytest.mark.slow
def test_files_are_the_same_bytes_whatever_the_batch_size_and_workers(
    labels: Path, augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    image = smooth_image(3)
    image[:, 100:140, 60:120] = 0
    scene = write_raster(tmp_path / "scene.tif", image, nodata=0)
    arguments = {"labels": labels, "stride": 48, "include_original": True, "recipe": "strong", "copies": 3}
    trees = []
    for batch_size, workers in ((1, 1), (7, 4), (64, 2), (None, None)):
        output = tmp_path / f"b{batch_size}w{workers}"
        augment(scene, output=output, batch_size=batch_size, workers=workers, **arguments)
        trees.append(tree(output))
    assert len(trees[0]) > 100
    for other in trees[1:]:
        assert other.keys() == trees[0].keys()
        assert [name for name in other if other[name] != trees[0][name]] == []
    augment(scene, output=tmp_path / "seed", seed=1, **arguments)
    reseeded = tree(tmp_path / "seed")
    augmented = [name for name in trees[0] if name.startswith("images/") and "_a" in name and name in reseeded]
    assert sum(reseeded[name] != trees[0][name] for name in augmented) > 0.95 * len(augmented)


def test_the_original_holds_the_pixels_of_its_window(
    scene: Path, labels: Path, augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    report = augment(scene, labels=labels, copies=0, include_original=True, stride=100)
    assert (report.written, report.originals) == (0, 9)
    for row in (0, 100, 128):
        name = f"scene_r{row}_c128_orig.tif"
        with rasterio.open(tmp_path / "out" / "images" / name) as tile:
            np.testing.assert_array_equal(tile.read(), smooth_image()[:, row : row + 64, 128:192])
            assert tile.transform == TRANSFORM * Affine.translation(128, row)
        with rasterio.open(tmp_path / "out" / "masks" / name) as mask:
            np.testing.assert_array_equal(mask.read(1), blocky_labels()[row : row + 64, 128:192])


@pytest.mark.parametrize("format", ["gtiff", "cog"])
@pytest.mark.parametrize("nodata", [None, [0, 7]], ids=["without nodata", "nodata of each band"])
def test_originals_of_masked_scenes_keep_valid_zeros(tmp_path: Path, format: str, nodata: list[int] | None) -> None:
    """Also where 0 is nodata in another band; the augmented tiles beside them step aside from it."""
    image = np.random.default_rng(0).integers(0, 3, (2, 64, 64)).astype("uint16")
    image[1, 4:8] = 7
    valid = np.ones((64, 64), dtype=bool)
    valid[:, :20] = False
    for number, band in enumerate(image):
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            path = write_raster(tmp_path / f"B0{number + 2}.tif", band, nodata=nodata and nodata[number])
            with rasterio.open(path, "r+") as file:
                file.write_mask(valid)
    expected = valid.copy()
    if nodata:
        expected &= (image[0] != 0) & (image[1] != 7)
    scene = tmp_path / "scene.vrt"
    sources = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{number}">{_tag(nodata and nodata[number - 1])}<SimpleSource>'
        f'<SourceFilename relativeToVRT="1">B0{number + 1}.tif</SourceFilename></SimpleSource></VRTRasterBand>'
        for number in (1, 2)
    )
    mask = (
        '<MaskBand><VRTRasterBand dataType="Byte"><SimpleSource><SourceFilename relativeToVRT="1">B02.tif'
        "</SourceFilename><SourceBand>mask</SourceBand></SimpleSource></VRTRasterBand></MaskBand>"
    )
    place = f"<SRS>{CRS}</SRS><GeoTransform>500000,10,0,5400000,0,-10</GeoTransform>"
    scene.write_text(f'<VRTDataset rasterXSize="64" rasterYSize="64">{place}{sources}{mask}</VRTDataset>')
    run(AugmentJob(
        scenes=[str(scene)], output=tmp_path / "out", recipe={"operations": ["RandomD4"]}, copies=0, tile=64,
        include_original=True, min_valid=0, device="cpu", format=format,
    ))  # fmt: skip
    [tile] = (tmp_path / "out" / "images").iterdir()
    with rasterio.open(tile) as file:
        found, known = file.read(), file.dataset_mask() != 0
    np.testing.assert_array_equal(known, expected)
    np.testing.assert_array_equal(found[:, expected], image[:, expected])
    assert (found[:, expected] == 0).any()
    [again] = open_scenes([str(tile)]).scenes
    np.testing.assert_array_equal(read_overview(again.record).valid, expected)


def _tag(nodata: int | None) -> str:
    return "" if nodata is None else f"<NoDataValue>{nodata}</NoDataValue>"


def test_the_manifest_tells_what_the_files_hold(
    scene: Path, labels: Path, augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    augment(scene, labels=labels, include_original=True, recipe="standard", seed=5)
    manifest = read_manifest(tmp_path / "out" / "manifest.parquet")
    files = {f"images/{path.name}" for path in (tmp_path / "out" / "images").iterdir()}
    assert set(manifest["image"]) == files
    assert list(manifest["copy"]) == [0, 1, 2] * 9
    order = manifest[["scene", "row", "col", "copy"]].apply(tuple, axis=1).tolist()
    assert order == sorted(order)
    for row in manifest.itertuples():
        with rasterio.open(tmp_path / "out" / row.image) as tile, rasterio.open(tmp_path / "out" / row.mask) as mask:
            assert Affine(*row.transform) == tile.transform
            assert row.valid_fraction == pytest.approx((tile.read_masks(1) != 0).mean())
            ids, counts = np.unique(mask.read(1), return_counts=True)
            expected = {str(i): int(n) for i, n in zip(ids, counts, strict=True) if i != 255}
            assert json.loads(row.class_counts) == expected
            corners = [tile.transform * corner for corner in ((0, 0), (64, 0), (64, 64), (0, 64))]
        local = geopandas.GeoSeries([row.geometry], crs="EPSG:4326").to_crs(CRS)[0]
        assert local.symmetric_difference(shapely.Polygon(corners)).area < 1e-3 * local.area
        drawn = json.loads(row.parameters)
        assert ("RandomD4" in drawn) == (row.copy > 0)
        assert (row.seed, row.source) == (5, str(scene))


def test_masks_name_their_classes(augment: Callable[..., AugmentReport], scene: Path, tmp_path: Path) -> None:
    fields = geopandas.GeoDataFrame(
        {"crop": ["wheat", "maize"]},
        geometry=[
            shapely.box(500000, 5399000, 500600, 5400000),
            shapely.box(500600, 5399000, 501200, 5400000),
        ],
        crs=CRS,
    ).to_crs("EPSG:4326")
    fields.to_file(tmp_path / "fields.gpkg")
    augment(scene, labels=tmp_path / "fields.gpkg", label_field="crop", recipe={"operations": []}, copies=1)
    classes = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert [(item["id"], item["name"]) for item in classes["classes"]] == [(0, "maize"), (1, "wheat")]
    with rasterio.open(tmp_path / "out" / "masks" / "scene_r0_c0_a1.tif") as mask:
        # Columns 0 to 59 are wheat, 60 to 63 maize.
        assert mask.tags()["CLASS_1"] == "wheat"
        np.testing.assert_array_equal(mask.read(1)[5], [1] * 60 + [0] * 4)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_tiles_keep_the_pixel_type_and_values(
    dtype: str, augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    scale = {"uint8": 0.026, "int8": 0.013}.get(dtype, 1.0)
    image = (smooth_image(2) * scale).astype(dtype)
    image[:, :10, :10] = 0
    scene = write_raster(tmp_path / "typed.tif", image, nodata=0)
    report = augment(scene, recipe={"operations": ["RandomD4"]})
    assert (report.written, report.failures) == (18, ())
    assert bool(report.notes) == (dtype == "float64")
    with rasterio.open(scene) as source:
        windows = {
            (row, col): source.read(window=rasterio.windows.Window(col, row, 64, 64))
            for row in (0, 64, 128)
            for col in (0, 64, 128)
        }
    for row in read_manifest(tmp_path / "out" / "manifest.parquet").itertuples():
        with rasterio.open(tmp_path / "out" / row.image) as tile:
            assert tile.dtypes == (dtype, dtype)
            assert tile.nodata == 0
            values = tile.read()
        # A symmetry of the square moves values without changing one.
        np.testing.assert_array_equal(np.sort(values, axis=None), np.sort(windows[row.row, row.col], axis=None))


def test_band_names_scale_and_offset_travel_along(augment: Callable[..., AugmentReport], tmp_path: Path) -> None:
    scene = write_raster(tmp_path / "s2.tif", smooth_image(3), nodata=0)
    with rasterio.open(scene, "r+") as dataset:
        dataset.descriptions = ("B02", "B08", "B11")
        dataset.scales, dataset.offsets = (0.0001,) * 3, (-0.1,) * 3
    augment(scene, sensor="sentinel-2-l2a", bands="B11,B02")
    with rasterio.open(tmp_path / "out" / "images" / "s2_r0_c0_a1.tif") as tile:
        assert tile.descriptions == ("B11", "B02")
        assert (tile.scales, tile.offsets) == ((0.0001,) * 2, (-0.1,) * 2)


def test_an_offset_told_by_the_product_is_written_into_the_tiles(
    augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    name = "S2A_MSIL2A_20230101T100321_N0509_R122_T33UUP_20230101T120000_B04.tif"
    scene = write_raster(tmp_path / name, smooth_image(1), nodata=0)
    augment(scene, copies=1)
    [first, *_] = sorted((tmp_path / "out" / "images").iterdir())
    with rasterio.open(first) as tile:
        assert tile.scales == pytest.approx((0.0001,))
        assert tile.offsets == pytest.approx((-0.1,))


def test_values_that_float32_cannot_hold_fail_the_scene_not_the_job(
    scene: Path, augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    image = smooth_image(1, dtype="uint32")
    image[0, 5, 5] = 2**24 + 1
    large = write_raster(tmp_path / "large.tif", image)
    report = augment(large, scene)
    [failure] = report.failures
    assert failure.path == str(large)
    assert "16777217" in failure.reason
    assert "1 of 9 windows" in failure.reason
    assert report.written == 8 * 2 + 9 * 2


def test_tiles_with_too_little_to_show_are_counted_and_not_written(
    augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    image = smooth_image(1)
    image[:, :, :100] = 0
    scene = write_raster(tmp_path / "wedge.tif", image, nodata=0)
    shifted = {"operations": [{"RandomAffine": {"degrees": 0, "translate": [0.4, 0.4], "p": 1.0}}]}
    report = augment(scene, recipe=shifted, min_valid=0.4, copies=5)
    # Of the columns 0, 64 and 128, the first is empty and the second holds 28 of 64 columns of data.
    assert report.skipped == 3
    assert report.dropped > 0
    assert report.written + report.dropped == 6 * 5
    manifest = read_manifest(tmp_path / "out" / "manifest.parquet")
    assert len(manifest) == report.written == len(list((tmp_path / "out" / "images").iterdir()))
    assert manifest["valid_fraction"].min() >= 0.4


def test_scenes_of_different_kinds_go_through_one_run(augment: Callable[..., AugmentReport], tmp_path: Path) -> None:
    scenes = [
        write_raster(tmp_path / "sixteen.tif", smooth_image(4), nodata=0),
        write_raster(tmp_path / "eight.tif", (smooth_image(3) // 40).astype(np.uint8)),
        write_raster(tmp_path / "reflectance.tif", (smooth_image(2) / 1e4).astype(np.float32), nodata=np.nan),
    ]
    report = augment(*scenes, batch_size=5)
    assert (report.written, report.failures) == (3 * 18, ())
    assert {use.sensor for use in report.sensors} == {"generic", "rgb"}
    with rasterio.open(tmp_path / "out" / "images" / "reflectance_r64_c64_a1.tif") as tile:
        assert np.isnan(tile.nodata)
        assert tile.count == 2


def test_bad_inputs_are_named_and_the_rest_is_done(
    scene: Path, augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    (tmp_path / "text.tif").write_text("not a raster")
    whole = write_raster(tmp_path / "whole.tif", smooth_image(), tiled=True, blockxsize=16, blockysize=16)
    (tmp_path / "cut.tif").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    small = write_raster(tmp_path / "small.tif", smooth_image(size=32))
    complex_numbers = write_raster(tmp_path / "complex.tif", smooth_image().astype(np.complex64))
    bad = [tmp_path / "text.tif", tmp_path / "cut.tif", small, complex_numbers]
    report = augment(scene, *bad)
    assert {failure.path for failure in report.failures} == {str(path) for path in bad}
    reasons = {Path(failure.path).name: failure.reason for failure in report.failures}
    assert "not a raster" in reasons["text.tif"]
    assert "larger than the scene" in reasons["small.tif"]
    assert "complex64" in reasons["complex.tif"]
    assert reasons["cut.tif"]
    assert sum(name.startswith("scene_") for name in tree(tmp_path / "out" / "images")) == 18


def test_labels_elsewhere_fail_the_scene(scene: Path, augment: Callable[..., AugmentReport], tmp_path: Path) -> None:
    away = TRANSFORM * Affine.translation(5000, 0)
    far = write_raster(tmp_path / "far.tif", blocky_labels(), nodata=255, transform=away)
    report = augment(scene, labels=far)
    assert report.written == 0
    assert "do not overlap" in report.failures[0].reason
    assert not (tmp_path / "out").exists()


def test_a_scene_without_crs_is_written_without_one_and_it_is_said_once(
    augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    scenes = [write_raster(tmp_path / f"bare{number}.tif", smooth_image(seed=number), crs=None) for number in (1, 2)]
    report = augment(*scenes)
    assert report.written == 36
    assert sum("no CRS" in note for note in report.notes) == 1
    with rasterio.open(tmp_path / "out" / "images" / "bare1_r0_c0_a1.tif") as tile:
        assert tile.crs is None
    assert read_manifest(tmp_path / "out" / "manifest.parquet")["geometry"].isna().all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bands": "B99"}, "B99"),
        ({"bands": ""}, "no bands"),
        ({"bands": []}, "no bands"),
        ({"sensor": "sentinel-3"}, "sentinel-3"),
        ({"recipe": "standrad"}, "did you mean 'standard'"),
        ({"recipe": {"operations": ["RandomRotatoin"]}}, "RandomRotation"),
        ({"recipe": {"operations": [{"RandomRotation": {"degrees": "far"}}]}}, "degrees"),
        ({"recipe": {"operations": [{"kornia.RandomElasticTransform": {}}]}}, "bends"),
        ({"copies": 0}, "copies"),
        ({"tile": 0}, "tile"),
        ({"stride": -1}, "stride"),
        ({"batch_size": 0}, "batch size"),
        ({"workers": 0}, "workers"),
        ({"min_valid": 1.5}, "min valid"),
        ({"seed": -1}, "seed"),
        ({"format": "png"}, "png"),
        ({"compress": "rar"}, "rar"),
        ({"device": "abacus"}, "abacus"),
        ({"device": "cuda:99"}, "cuda"),
        ({"labels": "nowhere.tif"}, "nowhere.tif"),
        ({"label_field": "crop"}, "label field"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_usage_is_refused_before_anything_is_written(
    changes: dict[str, Any], words: str, scene: Path, augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        augment(scene, **changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_scene_is_wrong_usage(augment: Callable[..., AugmentReport], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone\.tif: no such file"):
        augment(tmp_path / "gone.tif")


def test_an_output_that_is_not_empty_is_left_alone(
    scene: Path, augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    augment(scene, copies=2)
    before = tree(out)
    with pytest.raises(ConfigurationError, match="not empty"):
        augment(scene, copies=1)
    assert tree(out) == before


def test_overwriting_removes_what_geoaug_wrote_and_nothing_else(
    scene: Path, labels: Path, augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    augment(scene, labels=labels, copies=2)
    mine = [out / "notes.txt", out / "images" / "mine.tif", out / "images" / "photo_a1.tif", out / "other" / "x.tif"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    report = augment(scene, copies=1, overwrite=True)
    assert report.written == 9
    assert all(path.read_text() == "mine" for path in mine)
    names = set(tree(out)) - {str(path.relative_to(out)) for path in mine}
    expected = {f"images/scene_r{row}_c{col}_a1.tif" for row in (0, 64, 128) for col in (0, 64, 128)}
    assert names == expected | {"manifest.parquet", "recipe.yaml"}


def test_overwriting_never_removes_an_input(scene: Path, augment: Callable[..., AugmentReport], tmp_path: Path) -> None:
    out = tmp_path / "out"
    augment(scene, copies=1)
    before = tree(out)
    with pytest.raises(ConfigurationError, match="is an input"):
        augment(out / "images", tile=32, overwrite=True)
    assert tree(out) == before


def test_a_file_in_place_of_the_output_folder_is_refused(
    scene: Path, augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("")
    for output in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(ConfigurationError, match="taken"):
            augment(scene, output=output)


def test_the_written_recipe_does_the_same_again(
    scene: Path, augment: Callable[..., AugmentReport], tmp_path: Path
) -> None:
    augment(scene, recipe="strong", seed=3)
    text = (tmp_path / "out" / "recipe.yaml").read_text()
    assert "--seed 3" in text
    assert load_recipe(tmp_path / "out" / "recipe.yaml").specs == load_recipe("strong").specs
    augment(scene, recipe=tmp_path / "out" / "recipe.yaml", seed=3, output=tmp_path / "again")
    assert tree(tmp_path / "again" / "images") == tree(tmp_path / "out" / "images")


def test_a_job_that_is_cancelled_leaves_whole_files_and_a_manifest_of_them(scene: Path, tmp_path: Path) -> None:
    cancel, told = threading.Event(), list[Progress]()

    def stop_after_some(progress: Progress) -> None:
        told.append(progress)
        if progress.written >= 5:
            cancel.set()

    job = AugmentJob([str(scene)], tmp_path / "out", tile=32, stride=8, copies=3, batch_size=4, device="cpu")
    report = run(job, stop_after_some, cancel)
    manifest = read_manifest(tmp_path / "out" / "manifest.parquet")
    assert report.cancelled
    assert 5 <= report.written == len(manifest) < told[-1].total
    assert set(manifest["image"]) == {f"images/{path.name}" for path in (tmp_path / "out" / "images").iterdir()}
    for image in manifest["image"]:
        with rasterio.open(tmp_path / "out" / image) as tile:
            assert tile.read().shape == (2, 32, 32)


def test_progress_ends_at_the_total(scene: Path, tmp_path: Path) -> None:
    told = list[Progress]()
    report = run(AugmentJob([str(scene)], tmp_path / "out", tile=64, copies=2, device="cpu"), told.append)
    assert (told[-1].done, told[-1].total, told[-1].written) == (18, 18, report.written)
    assert [item.done for item in told] == sorted(item.done for item in told)


def test_a_tile_that_cannot_be_written_ends_the_job_with_a_manifest_of_the_others(
    scene: Path, labels: Path, augment: Callable[..., AugmentReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import geoaug.io.output as output

    written = output.write_geotiff

    def full_disk(path: Path, *arguments: Any, **options: Any) -> None:
        if path == tmp_path / "out" / "masks" / "scene_r64_c64_a1.tif":
            raise GeoaugError(f"{path}: cannot be written (No space left on device)")
        written(path, *arguments, **options)

    monkeypatch.setattr(output, "write_geotiff", full_disk)
    with pytest.raises(GeoaugError, match="No space left"):
        augment(scene, labels=labels, batch_size=2)
    manifest = read_manifest(tmp_path / "out" / "manifest.parquet")
    assert 0 < len(manifest) < 18
    assert set(manifest["image"]) == {f"images/{path.name}" for path in (tmp_path / "out" / "images").iterdir()}
    assert set(manifest["mask"]) == {f"masks/{path.name}" for path in (tmp_path / "out" / "masks").iterdir()}


def test_a_fault_in_a_reading_thread_surfaces(
    scene: Path, augment: Callable[..., AugmentReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    from geoaug.data.raster.reading import Reader

    def broken(*arguments: Any) -> None:
        raise RuntimeError("a fault in the code")

    monkeypatch.setattr(Reader, "window", broken)
    with pytest.raises(RuntimeError, match="a fault in the code"):
        augment(scene)

"""Scenes predicted window by window: no seams, no surprises, and a clear refusal where model and scene do not fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from rasterio.env import get_gdal_config
from torch import Tensor, nn

from geoaug import get_sensor
from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError, RasterError
from geoaug.io.geotiff import write_geotiff
from geoaug.io.streamed import StreamedRaster
from geoaug.models import Architecture, ClassName, ModelCard, predict_scene
from geoaug.models.networks.model_file import LoadedModel
from geoaug.models.predict.answers import Precision
from geoaug.models.predict.blending import Blend, StripBlender

SENSOR = get_sensor("sentinel-2-l2a").select("B04,B03,B08")
PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)


class Small(nn.Module):
    """Looks two pixels far, so that what is right can be computed at once for a whole scene."""

    def __init__(self, outputs: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, outputs, 3, padding=1)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, image: Tensor) -> Tensor:
        return self.second(self.dropout(torch.relu(self.first(image)))) * 3


def model_of(network: nn.Module, **facts: Any) -> LoadedModel:
    card = ModelCard(
        Architecture("resnet18", 3, 3, decoder="unet"),
        SENSOR,
        "segmentation",
        mean=(0.1, 0.1, 0.3),
        std=(0.05, 0.05, 0.1),
        gsd_m=10.0,
        tile_size=64,
        classes=(ClassName("field", (1, 2, 3)), ClassName("wood", (4, 5, 6)), ClassName("lake", (7, 8, 9))),
    )
    known = {name: getattr(card, name) for name in card.__dataclass_fields__}
    return LoadedModel(network, ModelCard(**{**known, **facts}))  # type: ignore[arg-type]


def scene_of(path: Path, pixels: np.ndarray, names: tuple[str, ...] = ("B04", "B03", "B08"), gsd: float = 10) -> Path:
    place = PLACE * Affine.scale(gsd / 10)
    write_geotiff(path, pixels, transform=place, crs="EPSG:32633", nodata=0, descriptions=names)
    return path


@pytest.fixture
def pixels() -> np.ndarray:
    random = np.random.default_rng(0)
    return random.integers(500, 4000, (3, 150, 171)).astype(np.uint16)


def truth_of(network: nn.Module, pixels: np.ndarray) -> Tensor:
    """Probabilities of the whole scene at once, with the mean around it."""
    mean, std = torch.tensor((0.1, 0.1, 0.3))[:, None, None], torch.tensor((0.05, 0.05, 0.1))[:, None, None]
    image = (torch.from_numpy(pixels.astype(np.float32)) / 10000 - mean) / std
    image = torch.where(torch.from_numpy((pixels != 0).all(0)), image, 0.0)
    with torch.no_grad():
        padded = nn.functional.pad(image[None], (8, 8, 8, 8))
        return network.eval()(padded).softmax(1)[0, :, 8:-8, 8:-8]


def read(path: Path | None) -> np.ndarray:
    assert path is not None
    with rasterio.open(path) as dataset:
        return dataset.read()


@pytest.mark.parametrize(("tile", "overlap", "batch"), [(64, 16, 4), (96, 40, 1), (48, 24, 7), (256, 64, 2)])
def test_windows_of_any_size_give_what_the_whole_scene_gives(
    pixels: np.ndarray, tmp_path: Path, tile: int, overlap: int, batch: int
) -> None:
    scene, network = scene_of(tmp_path / "s.tif", pixels), Small()
    found = predict_scene(
        model_of(network), scene, tmp_path / "out", tile=tile, overlap=overlap, batch_size=batch, probabilities=True
    )
    truth = truth_of(network, pixels)
    error = read(found.probabilities) / 254 - truth.numpy()
    assert np.abs(error).max() <= 0.5 / 254 + 1e-4
    certain = (truth.topk(2, 0).values.diff(dim=0).abs() > 1e-3)[0].numpy()
    assert np.array_equal(read(found.classes)[0][certain], truth.argmax(0).numpy()[certain])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_size_of_batches_changes_nothing(pixels: np.ndarray, tmp_path: Path, precision: Precision) -> None:
    scene = scene_of(tmp_path / "s.tif", pixels)
    first, second = (
        predict_scene(
            model_of(Small()), scene, tmp_path / str(size), batch_size=size, probabilities=True, precision=precision
        )
        for size in (1, 5)
    )
    assert np.array_equal(read(first.probabilities), read(second.probabilities))
    assert np.array_equal(read(first.classes), read(second.classes))


def test_half_precision_is_near_and_only_on_demand(pixels: np.ndarray, tmp_path: Path) -> None:
    scene, network = scene_of(tmp_path / "s.tif", pixels), Small()
    exact, half = (
        read(predict_scene(model_of(network), scene, tmp_path / str(number), probabilities=True, **how).probabilities)
        for number, how in enumerate(({}, {"precision": "bfloat16"}))
    )
    truth = truth_of(network, pixels).numpy()
    assert np.abs(exact / 254 - truth).max() <= 0.5 / 254 + 1e-4
    assert 2 / 254 < np.abs(half / 254 - truth).max() + 1 / 254 < 0.03
    with pytest.raises(ConfigurationError, match="float32, bfloat16"):
        predict_scene(model_of(network), scene, tmp_path, precision="float16")  # type: ignore[arg-type]


def test_a_network_that_has_predicted_can_be_trained(pixels: np.ndarray, tmp_path: Path) -> None:
    network = Small()
    predict_scene(model_of(network), scene_of(tmp_path / "s.tif", pixels), tmp_path / "out")
    network(torch.randn(1, 3, 32, 32)).sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize(("tile", "overlap", "margin"), [(32, 8, 2), (33, 16, 3), (20, 10, 0)])
@pytest.mark.parametrize(("height", "width"), [(70, 41), (5, 90), (32, 32)])
def test_a_constant_is_blended_to_the_same_constant(
    tile: int, overlap: int, margin: int, height: int, width: int
) -> None:
    blend = Blend(tile, overlap, margin)
    blender = StripBlender(2, height, width, blend)
    whole, times = np.full((2, height, width), np.nan, np.float32), np.zeros((height, width), int)
    for row in blend.rows(height, width):
        for window in row:
            place, finished = blender.add(window, np.full((2, tile, tile), 0.7, np.float32))
            inside = slice(place.row, place.row_stop), slice(place.col, place.col_stop)
            whole[:, *inside], times[inside] = finished, times[inside] + 1
    assert (times == 1).all()
    np.testing.assert_allclose(whole, 0.7, rtol=1e-6)


def test_windows_are_blended_by_their_weights() -> None:
    blend, random = Blend(32, 12, 2), np.random.default_rng(0)
    height, width = 70, 95
    blender = StripBlender(3, height, width, blend)
    found = np.full((3, height, width), np.nan, np.float32)
    sums, weights = np.zeros((3, height + 200, width + 200)), np.zeros((height + 200, width + 200))
    for row in blend.rows(height, width):
        for window in row:
            answer = random.random((3, 32, 32), np.float32)
            place, finished = blender.add(window, answer)
            found[:, place.row : place.row_stop, place.col : place.col_stop] = finished
            there = slice(window.row + 100, window.row_stop + 100), slice(window.col + 100, window.col_stop + 100)
            sums[:, *there] += answer * np.outer(blend.rise(), blend.rise())
            weights[there] += np.outer(blend.rise(), blend.rise())
    inside = slice(100, 100 + height), slice(100, 100 + width)
    np.testing.assert_allclose(found, sums[:, *inside] / weights[inside], atol=1e-6)


def test_weights_of_neighbours_add_up_to_one_and_margins_count_nothing() -> None:
    blend = Blend(40, 16, 3)
    along = blend.rise()
    assert not along[:3].any()
    assert not along[-3:].any()
    np.testing.assert_allclose(along[blend.step :] + along[: blend.overlap], 1, atol=1e-6)
    assert along.max() == 1.0
    assert blend.shares(100).max() == 1.0


def test_there_is_no_map_where_there_is_no_data(pixels: np.ndarray, tmp_path: Path) -> None:
    pixels[1, 20:60, 30:100] = 0  # one band is enough
    scene, network = scene_of(tmp_path / "s.tif", pixels), Small()
    found = predict_scene(model_of(network), scene, tmp_path, probabilities=True)
    empty = (pixels == 0).any(0)
    assert np.array_equal(read(found.classes)[0] == 255, empty)
    assert np.array_equal((read(found.probabilities) == 255).all(0), empty)
    error = read(found.probabilities)[:, ~empty] / 254 - truth_of(network, pixels).numpy()[:, ~empty]
    assert np.abs(error).max() <= 0.5 / 254 + 1e-4


def test_the_map_is_a_cog_in_the_scenes_grid_with_classes_and_colours(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(1, 4000, (3, 600, 520)).astype(np.uint16)
    scene = scene_of(tmp_path / "scene.tif", pixels)
    found = predict_scene(model_of(Small()), scene, tmp_path / "out", tile=256)
    assert found.classes == tmp_path / "out" / "scene_classes.tif"
    with rasterio.open(found.classes) as made, rasterio.open(scene) as source:
        assert made.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (made.crs, made.transform, made.shape) == (source.crs, source.transform, source.shape)
        assert made.nodata == 255
        assert made.overviews(1)
        assert made.colormap(1)[1] == (4, 5, 6, 255)
        assert made.tags()["class_2"] == "lake"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["scene_classes.tif"]


def test_bands_are_found_by_name_and_a_missing_one_is_refused(pixels: np.ndarray, tmp_path: Path) -> None:
    scene = scene_of(tmp_path / "a.tif", pixels)
    turned = scene_of(tmp_path / "b.tif", np.concatenate((pixels[::-1], pixels[:1])), ("B08", "B03", "B04", "B02"))
    first, second = (predict_scene(model_of(Small()), path, tmp_path / "out") for path in (scene, turned))
    assert np.array_equal(read(first.classes), read(second.classes))
    lacking = scene_of(tmp_path / "c.tif", pixels, ("B04", "B03", "B02"))
    with pytest.raises(ConfigurationError, match=r"'B08' is not one of .* The model takes B04 B03 B08 of"):
        predict_scene(model_of(Small()), lacking, tmp_path / "out")


def test_another_band_of_the_same_name_is_refused(pixels: np.ndarray, tmp_path: Path) -> None:
    scene = scene_of(tmp_path / "s.tif", pixels)
    swapped = tuple(replace(band, wavelength_nm=705.0) if band.name == "B08" else band for band in SENSOR.bands)
    model = model_of(Small(), sensor=replace(SENSOR, bands=swapped))
    with pytest.raises(ConfigurationError, match=r"B08' is at 83\d nm .* model's at 705 nm"):
        predict_scene(model, scene, tmp_path / "out")
    near = tuple(replace(band, wavelength_nm=band.wavelength_nm + 20) for band in SENSOR.bands)
    model = model_of(Small(), sensor=replace(SENSOR, bands=near))
    assert predict_scene(model, scene, tmp_path / "out").classes is not None


def test_another_sampling_distance_is_refused_unless_told(pixels: np.ndarray, tmp_path: Path) -> None:
    coarse = scene_of(tmp_path / "s.tif", pixels, gsd=30)
    with pytest.raises(ConfigurationError, match=r"30 m wide, and the model was trained at 10 m.*--resample"):
        predict_scene(model_of(Small()), coarse, tmp_path / "out")
    assert predict_scene(model_of(Small()), coarse, tmp_path / "out", ignore_gsd=True).classes is not None


def test_uncertainty_is_written_with_dropout_alone_active(pixels: np.ndarray, tmp_path: Path) -> None:
    scene = scene_of(tmp_path / "s.tif", pixels)
    found = predict_scene(model_of(Small(dropout=0.5)), scene, tmp_path, passes=4)
    with rasterio.open(found.uncertainty) as dataset:
        assert dataset.descriptions == ("entropy", "mutual information")
        entropy, information = dataset.read()
    assert (information <= entropy).all()
    assert information.max() > 0
    with pytest.raises(ConfigurationError, match="drops nothing"):
        predict_scene(model_of(Small()), scene, tmp_path, passes=4)


def test_views_are_averaged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(500, 4000, (3, 64, 64)).astype(np.uint16)
    network = Small()
    found = predict_scene(
        model_of(network), scene_of(tmp_path / "s.tif", pixels), tmp_path, test_time="flips", probabilities=True
    )
    views = []
    for axes in ((), (1,), (2,), (1, 2)):
        seen = truth_of(network, np.ascontiguousarray(np.flip(pixels, axes)))
        views.append(seen.flip(axes))
    error = read(found.probabilities) / 254 - torch.stack(views).mean(0).numpy()
    assert np.abs(error).max() <= 0.5 / 254 + 1e-4


def test_several_classes_at_once_come_as_their_probabilities(pixels: np.ndarray, tmp_path: Path) -> None:
    scene, network = scene_of(tmp_path / "s.tif", pixels), Small()
    found = predict_scene(model_of(network, multilabel=True), scene, tmp_path)
    assert found.classes is None
    with rasterio.open(found.probabilities) as dataset:
        assert dataset.descriptions == ("field", "wood", "lake")
        sums = dataset.read(out_dtype="float32").sum(0) * dataset.scales[0]
    assert sums.std() > 0.1  # not shares of one


def test_one_output_tells_two_classes_apart(pixels: np.ndarray, tmp_path: Path) -> None:
    network = Small(outputs=1)
    two = (ClassName("land", (1, 1, 1)), ClassName("water", (2, 2, 2)))
    model = model_of(network, architecture=Architecture("resnet18", 3, 1, decoder="unet"), classes=two)
    found = predict_scene(model, scene_of(tmp_path / "s.tif", pixels), tmp_path, probabilities=True)
    share = read(found.probabilities)[0] / 254
    certain = np.abs(share - 0.5) > 0.01
    assert np.array_equal(read(found.classes)[0][certain], (share > 0.5).astype(np.uint8)[certain])
    with rasterio.open(found.probabilities) as dataset:
        assert dataset.descriptions == ("water",)


def test_numbers_come_in_their_units(pixels: np.ndarray, tmp_path: Path) -> None:
    pixels[:, :9] = 0
    network = Small(outputs=1)
    model = model_of(
        network,
        architecture=Architecture("resnet18", 3, 1, decoder="unet"),
        task="regression",
        classes=(),
        training={"target_scale": [200.0, 50.0]},
    )
    found = predict_scene(model, scene_of(tmp_path / "s.tif", pixels), tmp_path)
    values = read(found.values)[0]
    assert np.isnan(values[:9]).all()
    assert abs(np.nanmean(values) - 200) < 200
    assert np.nanstd(values) > 5
    assert found.classes is None


def test_a_scene_that_breaks_leaves_nothing_behind(pixels: np.ndarray, tmp_path: Path) -> None:
    scene = scene_of(tmp_path / "s.tif", pixels)

    def stop(done: int, total: int) -> None:
        raise RasterError("stopped")

    with pytest.raises(RasterError, match="stopped"):
        predict_scene(model_of(Small()), scene, tmp_path / "out", progress=stop)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("facts", "options", "message"),
    [
        ({"architecture": Architecture("resnet18", 3, 3)}, {}, "whole chip"),
        ({"architecture": Architecture("resnet18", 3, 3, decoder="unet", fusion="difference")}, {}, "two dates"),
        ({}, {"passes": 1}, "two passes"),
        ({}, {"overlap": 60}, "overlap by"),
    ],
)
def test_models_that_make_no_map_are_refused(
    pixels: np.ndarray, tmp_path: Path, facts: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    scene = scene_of(tmp_path / "s.tif", pixels)
    with pytest.raises(ConfigurationError, match=message):
        predict_scene(model_of(Small(), **facts), scene, tmp_path / "out", **options)


def test_a_raster_takes_every_pixel_or_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "pieces.tif"
    options = {"count": 1, "height": 10, "width": 8, "dtype": "uint8", "transform": PLACE, "crs": None}
    pixels = np.arange(80, dtype=np.uint8).reshape(1, 10, 8)
    with StreamedRaster(path, **options) as raster:
        raster.write(pixels[:, :3, 5:], 0, 5)
        raster.write(pixels[:, :3, :5], 0)
        raster.write(pixels[:, 3:], 3)
        for row, col in ((8, 0), (0, 1), (-1, 0)):
            with pytest.raises(ConfigurationError, match="do not fit"):
                raster.write(pixels[:, :3], row, col)
    assert np.array_equal(read(path), pixels)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="24 of 80 pixels"), StreamedRaster(path, **options) as raster:
        raster.write(pixels[:, :3], 0)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["pieces.tif"]


@pytest.mark.parametrize("categorical", [False, True])
def test_overviews_are_means_or_nearest_pixels_of_what_is_valid(tmp_path: Path, categorical: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (2, 1040, 600)).astype(np.uint8)
    pixels[:, 100:200] = 255
    path = tmp_path / "map.tif"
    options = {"count": 2, "height": 1040, "width": 600, "dtype": "uint8", "transform": PLACE, "crs": None}
    with StreamedRaster(path, nodata=255, categorical=categorical, **options) as raster:
        for row in range(0, 1040, 130):
            raster.write(pixels[:, row : row + 130], row)
    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == dataset.overviews(2) == [2, 4]
    with rasterio.open(path, overview_level=0) as dataset:
        half = dataset.read().astype(float)
    cells = pixels.reshape(2, 520, 2, 300, 2).transpose(0, 1, 3, 2, 4).reshape(2, 520, 300, 4).astype(float)
    assert (half[:, 50:100] == 255).all()
    known = np.r_[0:50, 100:520]
    if categorical:
        assert (half[:, known, :, None] == cells[:, known]).any(-1).all()
    else:
        assert np.abs(half[:, known] - cells[:, known].mean(-1)).max() <= 0.5


def test_blocks_of_the_scene_are_kept_for_all_windows_that_touch_them(
    pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    seen = []

    def note(done: int, total: int) -> None:
        seen.append(get_gdal_config("GDAL_CACHEMAX"))

    before = get_gdal_config("GDAL_CACHEMAX")
    predict_scene(model_of(Small()), scene_of(tmp_path / "s.tif", pixels), tmp_path / "out", progress=note)
    assert seen
    assert all(32 * 2**20 <= size <= 512 * 2**20 for size in seen)  # bytes
    assert get_gdal_config("GDAL_CACHEMAX") == before


def test_a_window_out_of_turn_is_refused() -> None:
    blender = StripBlender(1, 64, 64, Blend(32, 8, 2))
    answer = np.zeros((1, 32, 32), np.float32)
    with pytest.raises(ConfigurationError, match="begins at row -2, column -2"):
        blender.add(Window(5, 0, 32, 32), answer)
    for row in Blend(32, 8, 2).rows(64, 64):
        for window in row:
            blender.add(window, answer)
    with pytest.raises(ConfigurationError, match="not the next"):
        blender.add(window, answer)

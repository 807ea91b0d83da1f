"""Pictures of catalogs and batches: what must be seen is there, in its colour and at its place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import torch
from affine import Affine
from made_catalogs import made_scene
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from scenes import catalog_of, numbers, scene_of, write_raster

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.pictures.batch_picture import draw_batch, draw_training_batch
from geoaug.data.pictures.catalog_picture import draw_catalog, map_edge
from geoaug.data.pictures.page import save_figure
from geoaug.data.sampling.splits import split_by_blocks, split_into_folds
from geoaug.data.sampling.survey import survey_catalog
from geoaug.errors import ConfigurationError
from geoaug.sensors import generic_sensor, get_sensor


def pixels_of(figure: Figure) -> Any:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)  # type: ignore[attr-defined]


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def colour_at(figure: Figure, longitude: float, latitude: float, axes: int = 0) -> Any:
    shown = pixels_of(figure)
    x, y = figure.axes[axes].transData.transform((longitude, latitude))
    return shown[shown.shape[0] - 1 - round(y), round(x)]


def test_splits_have_colours_of_their_own_at_their_place() -> None:
    scenes = [made_scene(f"s{number}", 500, 500, x=500000.0 + 6000 * number) for number in range(3)]
    catalog = Catalog.from_records(scenes, attributes={"split": ["train", "val", None]})
    figure = draw_catalog(catalog, title="three")
    assert legend_of(figure) == ["train (1 scene)", "val (1 scene)", "none (1 scene)"]
    centres = [shape.centroid.coords[0] for shape in catalog.footprints]
    train, val, none = (colour_at(figure, *centre) for centre in centres)
    assert train[2] > train[0] + 30  # blue
    assert val[0] > val[2] + 30  # orange
    assert np.ptp(none) < 12  # grey


def test_only_valid_ground_is_filled(tmp_path: Path) -> None:
    image = numbers((1, 256, 256))
    image[:, :, 128:] = 0
    catalog = survey_catalog(catalog_of(write_raster(tmp_path / "a.tif", image, nodata=0))).catalog
    figure = draw_catalog(catalog)
    west, south, east, north = catalog.footprints[0].bounds
    filled = colour_at(figure, west + 0.23 * (east - west), (south + north) / 2)
    empty = colour_at(figure, west + 0.79 * (east - west), (south + north) / 2)
    assert filled.sum() < empty.sum() - 60
    assert empty.min() > 240
    assert {"valid ground", "footprint"} <= set(legend_of(figure))


def test_the_ground_of_each_split_is_filled_and_the_buffer_is_not(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", numbers((1, 400, 400)))
    catalog = split_by_blocks(catalog_of(path), {"train": 0.5, "test": 0.5}, block_m=1000, buffer_m=200)
    figure = draw_catalog(catalog)
    assert legend_of(figure) == ["train (1 scene)", "test (1 scene)"]
    fills = [part for part in figure.axes[0].collections if isinstance(part, PathCollection)]
    assert len(fills) >= 2


@pytest.mark.parametrize("size", [600, 64])  # cut along blocks, or whole chips
def test_of_folds_each_is_drawn_and_not_what_it_is_trained_with(size: int) -> None:
    scenes = [
        made_scene(f"s{n}", size, size, x=500000.0 + 12 * size * (n % 4), y=5.2e6 - 12 * size * (n // 4))
        for n in range(12)
    ]
    catalog = split_into_folds(Catalog.from_records(scenes), 3, block_m=1500, buffer_m=100)
    figure = draw_catalog(catalog)
    assert [line.split()[0] for line in legend_of(figure)] == ["fold0", "fold1", "fold2"]
    shades = {name: tuple(patch.get_edgecolor()) for name, patch in zip(
        ("fold0", "fold1", "fold2"), figure.legends[0].get_patches(), strict=True)}  # fmt: skip
    for region in catalog.table.column("regions").to_pylist()[5]:
        if region["split"] not in shades:
            continue
        shape = catalog.footprints[5] if region["geometry"] is None else shapely.from_wkb(region["geometry"])
        place = shapely.point_on_surface(shapely.intersection(shape, catalog.footprints[5]))
        wanted = 255 * (0.45 * np.array(shades[region["split"]][:3]) + 0.55 * 0.98)
        np.testing.assert_allclose(colour_at(figure, place.x, place.y), wanted, atol=4)


def test_places_far_apart_have_maps_of_their_own() -> None:
    near = [made_scene(f"a{number}", 300, 300, x=500000.0 + 4000 * number) for number in range(3)]
    far = [made_scene("b", 300, 300, crs="EPSG:32654")]
    assert len(draw_catalog(Catalog.from_records(near)).axes) == 1
    figure = draw_catalog(Catalog.from_records([*near, *far]))
    assert len(figure.axes) == 3
    assert [axes.get_title(loc="left") for axes in figure.axes[1:]] == ["A", "B"]
    assert legend_of(figure) == ["EPSG:32632 (3 scenes)", "EPSG:32654 (1 scene)"]
    west, east = figure.axes[2].get_xlim()
    assert 140 < west < east < 142


def test_of_many_places_the_most_crowded_have_maps_and_the_rest_is_counted() -> None:
    def places(counts: list[int]) -> Figure:
        return draw_catalog(Catalog.from_records(
            made_scene(f"{zone}.{n}", 300, 300, x=500000.0 + 4000 * n, crs=f"EPSG:326{zone:02d}")
            for zone, count in enumerate(counts, start=20)
            for n in range(count)
        ))  # fmt: skip

    crowded = places([1, 2, 5, 2, 3, 4, 7, 6, 1])
    assert [axes.get_title(loc="left") for axes in crowded.axes if axes.get_title(loc="left")] == list("ABCDEF")
    assert crowded.legends[0].get_title().get_text() == "outside of A to F: 4 scenes"
    west, east = crowded.axes[1].get_xlim()
    assert -27.1 < west < east < -26, "the seven scenes of zone 26"
    one = places([1, 1, 1, 4, 1, 1, 1])
    assert len(one.axes) == 2
    assert one.legends[0].get_title().get_text() == "outside of A: 6 scenes"
    assert len(places([1] * 9).axes) == 1, "a map of each single scene shows nothing"
    few = places([1] * 3)
    assert len(few.axes) == 4
    assert not few.legends[0].get_title().get_text()


def test_scenes_at_the_date_line_are_drawn_beside_each_other() -> None:
    """Zones 60 and 1 meet at 180 degrees, and "over" lies across it."""
    west = made_scene("west", 500, 500, crs="EPSG:32660", x=700000.0)
    over = made_scene("over", 500, 500, crs="EPSG:32660", x=726000.0)
    east = made_scene("east", 500, 500, crs="EPSG:32601", x=290000.0)
    catalog = Catalog.from_records([west, over, east], attributes={"split": ["train", "val", "test"]})
    assert catalog.footprints[1].geom_type == "MultiPolygon", "it is stored in two parts"
    figure = draw_catalog(catalog)
    left, right = figure.axes[0].get_xlim()
    assert 179 < left < right < 181
    places = [np.mean(shapely.get_coordinates(shape)[:, 0] % 360) for shape in catalog.footprints]
    train, val, test = (colour_at(figure, place, catalog.footprints[0].centroid.y) for place in places)
    assert train[2] > train[0] + 30
    assert val[0] > val[2] + 30
    assert test[0] > test[1] + 40
    assert {label.get_text()[-1] for label in figure.axes[0].get_xticklabels()} >= {"E", "W"}


@pytest.mark.parametrize(
    ("extents", "begins"),
    [
        ([(-10, 20), (100, 120)], (-180, -180)),
        ([(170, 175), (-175, -170)], (-170, 170)),  # fits into half of the world across 180 alone
        ([(-100, -90), (5, 15), (130, 140)], (-180, -180)),  # fits into no half
        ([(-180, 180), (20, 30)], (-180, -180)),
    ],
)
def test_a_map_is_cut_where_nothing_lies(extents: list[tuple[int, int]], begins: tuple[int, int]) -> None:
    edge = map_edge(np.array([shapely.segmentize(shapely.box(a, -10, b, 10), 30) for a, b in extents]))
    assert begins[0] <= edge <= begins[1]


def test_what_has_no_place_is_told() -> None:
    lost = made_scene("lost", 300, 300, crs=None)
    figure = draw_catalog(Catalog.from_records([made_scene("a", 300, 300), lost]))
    assert figure.legends[0].get_title().get_text() == "not shown: 1 scene without a CRS"
    with pytest.raises(ConfigurationError, match="none can be drawn on a map"):
        draw_catalog(Catalog.from_records([lost]))
    with pytest.raises(ConfigurationError, match="no column 'cloud'"):
        draw_catalog(Catalog.from_records([made_scene("a", 300, 300)]), colour="cloud")


@pytest.mark.slow
def test_ten_thousand_scenes_are_drawn_at_once() -> None:
    scenes = [made_scene(f"s{n}", 64, 64, x=300000.0 + 700 * (n % 100), y=5e6 + 700 * (n // 100)) for n in range(10000)]
    figure = draw_catalog(Catalog.from_records(scenes))
    assert len(figure.axes[0].collections) < 5
    assert legend_of(figure) == ["EPSG:32632 (10,000 scenes)"]


def batch(count: int = 3) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    image = generator.integers(1000, 3000, (count, 4, 32, 32)).astype(np.uint16)
    valid = np.ones((count, 1, 32, 32), dtype=bool)
    valid[0, :, :10] = False
    mask = generator.integers(0, 3, (count, 32, 32)).astype(np.uint8)
    return {"image": torch.from_numpy(image), "valid": torch.from_numpy(valid), "mask": torch.from_numpy(mask)}


S2 = get_sensor("sentinel-2-l2a").select(["B02", "B03", "B04", "B08"])


def words(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.texts}


def test_a_tile_stands_beside_its_labels_and_its_prediction() -> None:
    scores = torch.randn(3, 3, 32, 32)
    figure = draw_batch(batch(), S2, predictions=scores, classes=["water", "wood", "field"])
    assert len(figure.axes) == 9
    assert {"image", "labels", "prediction", "water", "wood", "field", "no data"} <= words(figure)
    # Equal classes have equal colours in labels and prediction: drawn again from the argmax they are the same picture.
    again = draw_batch(
        {**batch(), "mask": scores.argmax(1)}, S2, predictions=scores, classes=["water", "wood", "field"]
    )
    labels, predicted = (np.asarray(axes.images[0].get_array()) for axes in again.axes[1:3])
    np.testing.assert_array_equal(labels, predicted)


def test_true_colour_is_red_green_blue_whatever_the_order_of_bands() -> None:
    given = batch()
    turned = {**given, "image": given["image"].numpy()[:, [3, 0, 2, 1]]}
    one = draw_batch(given, S2).axes[0].images[0].get_array()
    other = draw_batch(turned, S2.select(["B08", "B02", "B04", "B03"])).axes[0].images[0].get_array()
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_wrong_predictions_of_chips_are_told() -> None:
    given = {**batch(), "label": torch.tensor([0, 1, 2])}
    del given["mask"]
    figure = draw_batch(given, S2, predictions=torch.tensor([0, 2, 2]), classes=["water", "wood", "field"])
    assert {"water", "wood, predicted field", "field"} <= words(figure)
    numbers_of = {**given, "label": torch.tensor([0.5, 1.25, 2.0])}
    assert "1.25, predicted 3" in words(draw_batch(numbers_of, S2, predictions=torch.tensor([0.5, 3.0, 2.0])))


def test_one_tile_does_not_shift_the_colours_of_others() -> None:
    given = batch(8)
    before = np.asarray(draw_batch(given, S2).axes[2].images[0].get_array())
    image = given["image"].numpy().copy()
    image[7, 2] = 0  # a dropped band
    after = np.asarray(draw_batch({**given, "image": image}, S2).axes[2].images[0].get_array())
    np.testing.assert_allclose(before, after, atol=0.05)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="predictions of shape"):
        draw_batch(batch(), S2, predictions=torch.zeros(5, 3, 8, 8))
    with pytest.raises(ConfigurationError, match="an image"):
        draw_batch({"image": torch.zeros(0, 3, 8, 8)}, generic_sensor(3, 1.0))
    with pytest.raises(ConfigurationError, match="pictures end in"):
        save_figure(Figure(), tmp_path / "a.tiff")
    with pytest.raises(ConfigurationError, match="does not exist"):
        save_figure(Figure(), tmp_path / "absent" / "a.png")


def test_training_tiles_are_drawn_as_a_recipe_makes_them(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", numbers((4, 300, 300)), nodata=0)
    catalog = Catalog.from_records([scene_of(path)])
    plain = draw_training_batch(catalog, size=64, count=4, seed=1)
    again = draw_training_batch(catalog, size=64, count=4, seed=1)
    augmented = draw_training_batch(catalog, size=64, count=4, seed=1, recipe="light")
    first, second, third = (np.asarray(figure.axes[0].images[0].get_array()) for figure in (plain, again, augmented))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)
    save_figure(augmented, tmp_path / "batch.png")
    assert (tmp_path / "batch.png").read_bytes().startswith(b"\x89PNG")


def test_a_tile_must_be_one_that_scenes_and_memory_have_room_for(tmp_path: Path) -> None:
    catalog = Catalog.from_records([scene_of(write_raster(tmp_path / "a.tif", numbers((4, 300, 200)), nodata=0))])

    def drawn(size: int, count: int = 2, min_valid: float = 0.5, **options: Any) -> Figure:
        return draw_training_batch(catalog, size=size, count=count, min_valid=min_valid, **options)

    drawn(300)
    with pytest.raises(ConfigurationError, match="take tiles of 200 pixels or less"):
        drawn(400)
    drawn(400, min_valid=0.0)
    with pytest.raises(
        ConfigurationError, match=r"2 tiles of 9000 x 9000 pixels take 8 GB to draw: take tiles of \d+ "
    ):
        drawn(9000, min_valid=0.0)
    for size, count in ((0, 2), (-5, 2), (64, 0)):
        with pytest.raises(ConfigurationError, match="must have one at least"):
            drawn(size, count)


def test_a_batch_without_valid_tiles_is_told(tmp_path: Path) -> None:
    image = numbers((1, 256, 256))
    image[:, :230] = 0
    catalog = catalog_of(write_raster(tmp_path / "a.tif", image, nodata=0))
    with pytest.raises(ConfigurationError, match=r"left out: .* lower min_valid \(--min-valid\)"):
        draw_training_batch(catalog, size=128, count=2, min_valid=0.5)


def test_long_names_are_shortened_in_the_middle() -> None:
    names = [f"S2A_MSIL2A_20230101T101010_N0509_R022_T32UPU_20230101T12000{n}" for n in range(3)]
    given = {**batch(), "scene": names, "window": torch.tensor([[n, 5120 + n, 32, 32] for n in range(3)])}
    del given["mask"]
    captions = [text for text in words(draw_batch(given, S2)) if "…" in text]
    assert len(captions) == 3
    for caption in captions:
        number = int(caption[-1])
        assert caption.startswith("S2A_")
        assert caption.endswith(f"T12000{number} · {number}, 512{number}")
    labelled = {**batch(), "label": torch.tensor([0, 1, 1])}
    del labelled["mask"]
    classes = ["broad-leaved forest with clearings", "permanently irrigated land"]
    shown = words(draw_batch(labelled, S2, predictions=torch.tensor([1, 1, 1]), classes=classes))
    assert any(text.startswith("broad-leaved") and "…" in text and text.endswith("irrigated land") for text in shown)


def test_a_turned_grid_is_drawn_turned() -> None:
    from dataclasses import replace

    scene = made_scene("a", 300, 300)
    grid = scene.grid
    turned = replace(grid, transform=grid.transform * Affine.rotation(30))
    record = replace(scene, bands=(replace(scene.bands[0], grid=turned),))
    figure = draw_catalog(Catalog.from_records([record]))
    west, south, east, north = Catalog.from_records([record]).footprints[0].bounds
    assert colour_at(figure, west + 0.02 * (east - west), south + 0.02 * (north - south)).min() > 230

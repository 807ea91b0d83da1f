"""`geoaug predict` and `geoaug explain`: maps, tables and pictures from a model file alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import matplotlib.image
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import rasterio
import torch
from affine import Affine
from made_chips import CLASSES, write_chips
from products import make_safe

from geoaug import get_sensor
from geoaug.data import Catalog
from geoaug.io.geotiff import write_geotiff
from geoaug.models import ClassName, ModelCard, load_model, resnet18, save_model, unet

PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)
NAMES = ["B04", "B03", "B02", "B08"]


@pytest.fixture(scope="module")
def maps_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    bands = get_sensor("sentinel-2-l2a").select(NAMES)
    network = unet("resnet18", None, bands, num_classes=2, dropout=0.2)
    classes = (ClassName("land", (120, 90, 40)), ClassName("water", (0, 60, 200)))
    card = ModelCard(
        network.architecture, bands, "segmentation", (0.1,) * 4, (0.05,) * 4, gsd_m=10.0, tile_size=64, classes=classes
    )
    return save_model(tmp_path_factory.mktemp("model") / "maps.safetensors", network, card)


@pytest.fixture(scope="module")
def chips_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = resnet18(None, get_sensor("rgb"), num_classes=3, dropout=0.3)
    classes = tuple(ClassName(name, (9, 9, place)) for place, name in enumerate(CLASSES))
    card = ModelCard(
        network.architecture, get_sensor("rgb"), "classification", (0.4,) * 3, (0.2,) * 3, tile_size=16, classes=classes
    )
    return save_model(tmp_path_factory.mktemp("model") / "chips.safetensors", network, card)


def scene(path: Path, gsd: float = 10, names: list[str] = NAMES, size: int = 96) -> Path:
    pixels = np.random.default_rng(0).integers(500, 4000, (len(names), size, size)).astype(np.uint16)
    pixels[:, :20, :20] = 0
    place = PLACE * Affine.scale(gsd / 10)
    write_geotiff(path, pixels, transform=place, crs="EPSG:32633", nodata=0, descriptions=names)
    return path


def test_scenes_become_maps_with_areas(geoaug: Any, maps_model: Path, tmp_path: Path) -> None:
    one, two = scene(tmp_path / "one.tif"), scene(tmp_path / "two.tif", size=80)
    done = geoaug(
        "predict", maps_model, one, two, "-o", tmp_path / "out", "--probabilities", "--uncertainty", "--passes", 2,
        "--tta", "--polygons", tmp_path / "out" / "areas.gpkg", "--device", "cpu",
    )  # fmt: skip
    assert done.code == 0, done.err
    with rasterio.open(tmp_path / "out" / "one_classes.tif") as found, rasterio.open(one) as source:
        classes = found.read(1)
        assert found.transform.almost_equals(source.transform)
        assert found.crs == source.crs
        assert (classes[:20, :20] == 255).all()
        assert found.colormap(1)[1][:3] == (0, 60, 200)
        assert found.tags()["class_1"] == "water"
    assert (tmp_path / "out" / "two_uncertainty.tif").is_file()
    areas = geopandas.read_file(tmp_path / "out" / "areas.gpkg")
    mine = areas[areas.scene == "one.tif"]
    for number in (0, 1):
        whole = float(mine[mine.class_id == number].area_m2.sum())
        assert whole == pytest.approx(100.0 * (classes == number).sum())
    again = geoaug("predict", maps_model, one, "-o", tmp_path / "out", "--device", "cpu")
    assert again.code == 2
    assert "--overwrite" in again.err


def test_products_files_of_bands_and_catalogs_become_maps(geoaug: Any, maps_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    others = [name for name in get_sensor("sentinel-2-l2a").band_names if name not in NAMES]
    safe = make_safe(folder, leave_out=others)
    whole = scene(folder / "whole.tif", size=64)
    for day, shift in (("april", 0), ("may", 300)):
        with rasterio.open(whole) as source:
            for number, band in enumerate(NAMES, 1):
                pixels = source.read([number])
                pixels[pixels != 0] += shift
                write_geotiff(
                    folder / f"{day}_{band}.tif", pixels, transform=source.transform, crs=source.crs, nodata=0
                )
    done = geoaug("predict", maps_model, folder, "-o", tmp_path / "out", "--device", "cpu")
    assert done.code == 0, done.err
    names = {safe.stem, "whole", "april", "may"}
    maps = {name: tmp_path / "out" / f"{name}_classes.tif" for name in names}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in maps.values()}

    def read(path: Path) -> np.ndarray:
        with rasterio.open(path) as file:
            return file.read(1)

    assert np.array_equal(read(maps["whole"]), read(maps["april"]))
    assert not np.array_equal(read(maps["april"]), read(maps["may"]))
    assert (read(maps[safe.stem])[:2] == 255).all()
    assert (read(maps[safe.stem])[2:] != 255).all()
    Catalog.from_folder(folder).save(tmp_path / "scenes.parquet")
    done = geoaug("predict", maps_model, tmp_path / "scenes.parquet", "-o", tmp_path / "again", "--device", "cpu")
    assert done.code == 0, done.err
    for path in maps.values():
        assert np.array_equal(read(path), read(tmp_path / "again" / path.name))


def test_another_ground_sampling_distance_is_refused_or_resampled(
    geoaug: Any, maps_model: Path, tmp_path: Path
) -> None:
    coarse = scene(tmp_path / "coarse.tif", gsd=20)
    done = geoaug("predict", maps_model, coarse, "-o", tmp_path / "out", "--device", "cpu")
    assert done.code == 2
    assert "20 m wide" in done.err
    assert not list((tmp_path / "out").glob("*.tif"))
    done = geoaug("predict", maps_model, coarse, "-o", tmp_path / "out", "--resample", "--device", "cpu")
    assert done.code == 0, done.err
    with rasterio.open(tmp_path / "out" / "coarse_classes.tif") as found, rasterio.open(coarse) as source:
        assert found.res == (10, 10)
        assert found.bounds == source.bounds
        assert (found.read(1)[:38, :38] == 255).all(), "nodata stays nodata"


def test_what_cannot_be_predicted_is_told(geoaug: Any, maps_model: Path, chips_model: Path, tmp_path: Path) -> None:
    good = scene(tmp_path / "good.tif")
    lacking = scene(tmp_path / "lacking.tif", names=["B04", "B03", "B02"])
    broken = tmp_path / "broken.tif"
    broken.write_bytes(good.read_bytes()[:3000])
    tampered = tmp_path / "tampered.safetensors"
    content = bytearray(maps_model.read_bytes())
    content[-10] ^= 1
    tampered.write_bytes(content)
    checkpoint = tmp_path / "last.ckpt"
    checkpoint.touch()
    for model, source, options, code, said in (
        (maps_model, lacking, (), 2, "B08"),
        (tampered, good, (), 2, "digest"),
        (tmp_path / "no.safetensors", good, (), 2, "no such model file"),
        (maps_model, good, ("--polygons", tmp_path / "a.txt"), 2, ".gpkg"),
        (maps_model, good, ("--resample", "--ignore-gsd"), 2, "give one"),
        (chips_model, good, ("--sensor", "rgbn"), 2, "cut them into chips"),
        (chips_model, good, ("--tile", "64", "--probabilities"), 2, "--tile, --probabilities: for maps"),
        (chips_model, good, ("--polygons", tmp_path / "a.gpkg"), 2, "--polygons: for maps"),
        (chips_model, good, (), 2, "of different scales"),
        (maps_model, good, ("--format", "csv"), 2, "--format: for the table of chips"),
        (maps_model, good, ("--passes", "5"), 2, "give it, too"),
        (maps_model, good, ("--device", "tpu"), 2, "choose auto, cpu or cuda"),
        (checkpoint, good, (), 2, "model.safetensors"),
        (maps_model, broken, (), 1, "broken.tif"),
    ):
        done = geoaug("predict", model, source, "-o", tmp_path / "out", "--device", "cpu", *options)
        assert done.code == code, (source, done.err)
        assert said in done.err, done.err
        assert not list((tmp_path / "out").glob("*")), "whole or not at all"
    done = geoaug("predict", maps_model, broken, good, "-o", tmp_path / "out", "--device", "cpu")
    assert done.code == 1
    assert (tmp_path / "out" / "good_classes.tif").is_file(), "one that cannot be read does not stop the others"


@pytest.mark.parametrize(
    "command", ["predict", *(pytest.param(name, marks=pytest.mark.slow) for name in ("explain", "validate", "test"))]
)
def test_what_is_no_model_file_is_told_in_a_line(geoaug: Any, chips_model: Path, tmp_path: Path, command: str) -> None:
    chips = write_chips(tmp_path / "chips", count=1)
    whole = chips_model.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    head = json.loads(whole[8 : 8 + length])

    def told(card: Any) -> bytes:
        text = json.dumps({**head, "__metadata__": {**head["__metadata__"], "geoaug": json.dumps(card)}}).encode()
        return len(text).to_bytes(8, "little") + text + whole[8 + length :]

    card = json.loads(head["__metadata__"]["geoaug"])
    assert told(card)[-100:] == whole[-100:]
    renamed = [{**card["classes"][0], "name": "sea"}, *card["classes"][1:]]
    for content, said in (
        (whole[: len(whole) // 2], "damaged"),
        (b"no model at all", "not a safetensors file"),
        (b"", "not a safetensors file"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "digest"),
        (told({**card, "classes": renamed}), "digest"),
        (told([1, 2]), "not a model card"),
        (told({**card, "mean": 3}), "not a model card"),
        (told({**card, "classes": [{"name": "sea", "colour": "blue"}]}), "not a model card"),
    ):
        model = tmp_path / "m.safetensors"
        model.write_bytes(content)
        source = ("--data", chips) if command in ("validate", "test") else (chips, "-o", tmp_path / "out")
        done = geoaug(command, model, *source, "--device", "cpu")
        assert done.code == 2, done.err
        assert said in done.err, done.err
        assert "m.safetensors" in done.err
        assert done.err.strip().count("geoaug: error:") == 1


def test_chips_of_another_sampling_distance_are_refused_unless_told(
    geoaug: Any, chips_model: Path, tmp_path: Path
) -> None:
    model, chip = load_model(chips_model), tmp_path / "chip.tif"
    own = save_model(tmp_path / "own.safetensors", model.network, replace(model.card, gsd_m=10.0))
    pixels = np.random.default_rng(0).integers(1, 255, (3, 16, 16)).astype(np.uint8)
    chips = []
    for number, gsd in enumerate((10, 30, 10)):
        chips.append(chip.with_stem(f"chip{number}"))
        write_geotiff(chips[-1], pixels, transform=PLACE * Affine.scale(gsd / 10), crs="EPSG:32633")
    for command, more in (("predict", ()), ("explain", ("-n", 0))):
        there = (command, own, *chips, "-o", tmp_path / command, "--sensor", "rgb", "--device", "cpu", *more)
        done = geoaug(*there)
        assert done.code == 2
        assert "chip1.tif: pixels are 30 m wide" in done.err, done.err
        done = geoaug(*there, "--ignore-gsd")
        assert done.code == 0, done.err
    done = geoaug("predict", own, *chips, "-o", tmp_path / "out", "--resample", "--device", "cpu")
    assert done.code == 2
    assert "--resample: for maps" in done.err


def test_chips_become_a_table(geoaug: Any, chips_model: Path, tmp_path: Path) -> None:
    chips = write_chips(tmp_path / "chips", count=3)
    options = ("--uncertainty", "--passes", 3, "--device", "cpu")
    done = geoaug("predict", chips_model, chips, "-o", tmp_path / "out", *options)
    assert done.code == 0, done.err
    table = pyarrow.parquet.read_table(tmp_path / "out" / "predictions.parquet")
    assert table.num_rows == 9
    shares = np.stack([table[f"p_{name}"].to_numpy() for name in CLASSES], 1)
    assert shares.sum(1) == pytest.approx(np.ones(9), abs=1e-5)
    assert [CLASSES[place] for place in shares.argmax(1)] == table["class"].to_pylist()
    assert [Path(path).parent.name for path in table["chip"].to_pylist()] == table["label"].to_pylist()
    assert (table["entropy"].to_numpy() >= table["mutual_information"].to_numpy()).all()
    done = geoaug("predict", chips_model, chips, "-o", tmp_path / "out", "--format", "csv", "--device", "cpu")
    assert done.code == 0
    plain = pyarrow.csv.read_csv(tmp_path / "out" / "predictions.csv")
    assert plain.column_names[:4] == ["chip", "label", "class", "probability"]


def test_chips_at_half_precision_are_near_those_at_full(geoaug: Any, chips_model: Path, tmp_path: Path) -> None:
    chips = write_chips(tmp_path / "chips", count=3)
    shares = {}
    for precision in ("float32", "bfloat16"):
        done = geoaug(
            "predict", chips_model, chips, "-o", tmp_path / precision, "--precision", precision, "--device", "cpu"
        )
        assert done.code == 0, done.err
        table = pyarrow.parquet.read_table(tmp_path / precision / "predictions.parquet")
        shares[precision] = np.stack([table[f"p_{name}"].to_numpy() for name in CLASSES])
    assert 0 < np.abs(shares["float32"] - shares["bfloat16"]).max() < 0.05


def test_looking_through_a_model(geoaug: Any, chips_model: Path, tmp_path: Path) -> None:
    chips = write_chips(tmp_path / "chips", count=3)
    done = geoaug("explain", chips_model, chips, "-o", tmp_path / "out", "-n", 4, "--device", "cpu")
    assert done.code == 0, done.err
    assert "4 chips" in done.out
    assert "9 chips" in done.out
    for name in ("grad_cam.png", "embedding.png"):
        assert matplotlib.image.imread(tmp_path / "out" / name)[..., 0].std() > 0.05
    done = geoaug("explain", chips_model, "-o", tmp_path / "out")
    assert done.code == 2
    assert "name chips" in done.err

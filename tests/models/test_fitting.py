"""What is chosen from data alone, how labels become answers, and what a training keeps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from made_catalogs import made_scene
from made_chips import CLASSES, write_chips
from torch import Tensor

from geoaug.data import Catalog, GridTileSampler, TileDataset, check_leaks
from geoaug.data.synthetic.made_scene import write_scene
from geoaug.errors import ConfigurationError, RasterError
from geoaug.io.geotiff import write_geotiff
from geoaug.models.explain import embed, grad_cam
from geoaug.models.fit.choices import Choices, FitRequest, choose
from geoaug.models.fit.curves import Curves, curves_figure
from geoaug.models.fit.data import FitAugment, FitData
from geoaug.models.fit.task import build_task
from geoaug.models.networks.resnet import resnet18
from geoaug.models.predict.polygons import map_polygons
from geoaug.models.tasks.classes import balanced_weights


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks on a busy machine wait for each other's threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def said(choices: Choices) -> dict[str, str]:
    return {what: choice for what, choice, _ in choices.lines}


def test_chips_in_folders_are_classes_and_their_split_keeps_shares(tmp_path: Path) -> None:
    chips = write_chips(tmp_path / "chips", count=20)
    choices = choose(FitRequest([str(chips)], tmp_path / "run"))
    found = said(choices)
    assert (found["task"], found["augmentation"], found["stem"]) == ("classification", "aerial-rgb", "copy")
    assert choices.configuration["data"]["output_size"] == 128
    catalog = Catalog.open(tmp_path / "run" / "catalog.parquet")
    assert len(catalog.split("train")) == 42
    assert set(catalog.split("test").column("label")) == set(CLASSES)
    again = choose(FitRequest([str(chips)], tmp_path / "again"))
    assert Catalog.open(tmp_path / "again" / "catalog.parquet").split("val").ids == catalog.split("val").ids
    assert again.lines == choices.lines


def test_training_and_test_alone_get_a_validation_of_the_training(tmp_path: Path) -> None:
    write_chips(tmp_path / "chips" / "train", count=20)
    write_chips(tmp_path / "chips" / "test", count=6)
    choices = choose(FitRequest([str(tmp_path / "chips")], tmp_path / "run", weights="none"))
    catalog = Catalog.open(tmp_path / "run" / "catalog.parquet")
    assert len(catalog.split("test")) == 18
    assert len(catalog.split("train")) + len(catalog.split("val")) == 60
    assert len(catalog.split("val")) == pytest.approx(9, abs=2)
    assert all("/train/" in path for path in catalog.split("val").column("path"))
    assert "validation" in said(choices)


def test_ground_is_split_without_leaks(tmp_path: Path) -> None:
    made = write_scene(tmp_path, size=512)
    choices = choose(FitRequest([str(made.image)], tmp_path / "run", labels=str(made.labels), tile=32, weights="none"))
    catalog = Catalog.open(tmp_path / "run" / "catalog.parquet")
    check_leaks(catalog, 160, size=32)
    assert choices.configuration["model"]["network"]["decoder"] == "unet"
    assert choices.configuration["data"]["class_names"][0] == "water"
    assert said(choices)["augmentation"] == "sentinel-2-segmentation"


def few_labels(tmp_path: Path, boxes: dict[int, tuple[slice, slice]]) -> dict[str, Any]:
    """A scene of 192 pixels with labels in a few boxes alone."""
    made = write_scene(tmp_path, size=192)
    with rasterio.open(made.labels, "r+") as labels:
        ids = np.full((192, 192), 255, labels.dtypes[0])
        for number, box in boxes.items():
            ids[box] = number
        labels.write(ids, 1)
    return {"data": [str(made.image)], "output": tmp_path / "run", "labels": str(made.labels), "weights": "none"}


@pytest.mark.slow
def test_few_and_small_places_with_labels_are_split_where_that_is_possible(tmp_path: Path) -> None:
    boxes = {0: np.s_[70:95, 76:102], 1: np.s_[85:123, 113:175], 2: np.s_[109:122, 35:48]}
    choices = choose(FitRequest(**few_labels(tmp_path, boxes)))
    data = choices.configuration["data"]
    catalog = Catalog.open(data["source"])
    side = data["size"]
    check_leaks(catalog, side * 10 / 2, size=side)
    held = {}
    for split in ("train", "val"):
        with TileDataset(catalog.split(split), side, labels=data["labels"]) as dataset:
            masks = torch.cat([dataset[ref]["mask"].flatten() for ref in GridTileSampler(dataset)])
        held[split] = set(masks.unique().tolist()) - {255}
    assert held["train"] == {0, 1, 2}, "what is not trained cannot be found"
    assert held["val"]
    if held["val"] != {0, 1, 2}:
        assert choices.configuration["run"]["monitor"] == "train/loss_epoch"
        assert ("best epoch", "least training loss") in {line[:2] for line in choices.lines}
    assert data["sampler"] == "balanced"
    assert data["batch_size"] < 64


@pytest.mark.slow
def test_a_split_without_labels_is_told(tmp_path: Path) -> None:
    """One small place cannot be on both sides of a buffer."""
    told = few_labels(tmp_path, {0: np.s_[90:92, 90:92], 1: np.s_[90:92, 92:94]})
    with pytest.raises(ConfigurationError, match=r"no split by ground .* 32 pixels that .* a smaller --tile"):
        choose(FitRequest(**told, tile=32))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"model": "resnet17"}, "resnet18, resnet34"),
        ({"task": "segmentation"}, "needs masks"),
        ({"decoder": "unet"}, "--decoder is for maps"),
        ({"target": "biomass"}, "no column 'biomass'"),
    ],
)
def test_what_cannot_be_learned_is_told(tmp_path: Path, told: dict[str, Any], words: str) -> None:
    chips = write_chips(tmp_path / "chips")
    with pytest.raises(ConfigurationError, match=words):
        choose(FitRequest([str(chips)], tmp_path / "run", **told))


def test_scenes_without_labels_are_told(tmp_path: Path) -> None:
    catalog = Catalog.from_records([made_scene("a", 200, 200), made_scene("b", 200, 200, x=500000)])
    catalog.save(tmp_path / "c.parquet")
    with pytest.raises(ConfigurationError, match="nothing to learn was found"):
        choose(FitRequest([str(tmp_path / "c.parquet")], tmp_path / "run"))


@pytest.fixture
def masked(tmp_path: Path) -> dict[str, Any]:
    """A scene with labels whose ids have gaps."""
    made = write_scene(tmp_path, size=128)
    return {"source": str(made.image), "labels": str(made.labels), "size": 32, "batch_size": 4, "bands": ["B04", "B08"]}


def test_ids_with_gaps_become_places_among_the_classes(masked: dict[str, Any]) -> None:
    data = FitData(**masked, class_ids=[0, 2, 3, 4, 5, 6, 7, 8, 9, 1])
    batch = next(iter(data.train_dataloader()))
    found = FitAugment(data).eval()(batch)["mask"]
    stored = batch["mask"].long()
    wanted = torch.tensor([0, 9, 1, 2, 3, 4, 5, 6, 7, 8])
    assert found[stored != 255].equal(wanted[stored[stored != 255]])
    assert (found[stored == 255] == 255).all()
    data.teardown()


def test_labels_out_of_range_are_told(masked: dict[str, Any]) -> None:
    data = FitData(**masked, class_ids=[0, 1])
    with pytest.raises(RasterError, match="not among the classes 0, 1"):
        next(iter(data.train_dataloader()))
    data.teardown()
    with pytest.raises(ConfigurationError, match="ignore_index, too"):
        FitData(**masked, class_ids=[0, 255])
    with pytest.raises(ConfigurationError, match="come together"):
        FitData(**masked, mean=[0.1, 0.1])
    with pytest.raises(ConfigurationError, match="2 class_names for 3 class_ids"):
        build_task(FitData(**masked, class_ids=[0, 1, 2], class_names=["a", "b"]), "segmentation")


def test_a_task_must_have_its_labels(tmp_path: Path) -> None:
    data = FitData(str(write_chips(tmp_path / "chips")), batch_size=8)
    for task, words in (("segmentation", "needs masks"), ("regression", "a number for each chip")):
        with pytest.raises(ConfigurationError, match=words):
            build_task(data, task)
    catalog = Catalog.from_folder(tmp_path / "chips")
    catalog = catalog.with_column("several", [["a", "b"]] * len(catalog))
    catalog.save(tmp_path / "chips" / "several.parquet")
    with pytest.raises(ConfigurationError, match="several classes for a chip, and geoaug fit learns one"):
        build_task(FitData(str(tmp_path / "chips" / "several.parquet"), target="several"), "classification")


def test_augmentation_is_of_training_alone(tmp_path: Path) -> None:
    data = FitData(str(write_chips(tmp_path / "chips")), batch_size=8, recipe="strong", output_size=24, fit="resize")
    augment = FitAugment(data)
    batch = next(iter(data.train_dataloader()))
    one, other = augment.eval()(batch)["image"], data.compose("train").eval()(batch)["image"]
    assert one.shape[-2:] == (24, 24)
    assert one.equal(other)
    assert not augment.train()(batch)["image"].allclose(one)
    assert data.input_statistics().mean == pytest.approx((0, 0, 0), abs=0.3)


def test_rare_classes_weigh_more_and_labels_one_on_average() -> None:
    counts = torch.tensor([900.0, 90.0, 10.0])
    weights = balanced_weights(counts)
    assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1)
    assert (weights / weights[0]).tolist() == pytest.approx([1, 10**0.5, 90**0.5])


def test_curves_are_in_the_checkpoint(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    curves.rows = [
        {"epoch": 1, "lr": 0.1, "train/loss": 2.0},
        {"epoch": 2, "lr": 0.1, "train/loss": 1.0, "val/iou": 0.5},
    ]
    curves.write()
    lines = (tmp_path / "curves.csv").read_text().splitlines()
    assert lines == ["epoch,lr,train/loss,val/iou", "1,0.1,2.0,", "2,0.1,1.0,0.5"]
    resumed = Curves(tmp_path)
    resumed.load_state_dict(curves.state_dict())
    assert resumed.rows == curves.rows
    drawn = [line.get_label() for axes in curves_figure(curves.rows).axes for line in axes.lines]
    assert drawn == ["train/loss", "val/iou"]


def test_grad_cam_finds_what_the_answer_is_made_of() -> None:
    """Against the formula: gradients of the answer by the last stage, averaged over space, as weights of it."""
    torch.manual_seed(0)
    network = resnet18(None, 3, num_classes=4).eval()
    images = torch.randn(2, 3, 64, 64)
    classes = torch.tensor([1, 3])
    found = grad_cam(network, images, classes)
    kept: list[Tensor] = []
    handle = network.layer4.register_forward_hook(lambda module, inputs, output: kept.append(output))
    answer = network(images)
    handle.remove()
    gradient = torch.autograd.grad(answer[[0, 1], classes].sum(), kept[0])[0]
    wanted = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True).relu()
    wanted = torch.nn.functional.interpolate(wanted, (64, 64), mode="bilinear")[:, 0].detach()
    wanted = wanted / wanted.amax((1, 2), keepdim=True).clamp_min(1e-12)
    assert found.allclose(wanted, atol=1e-4)


def test_features_in_a_plane_are_the_principal_components() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(40, 6)) * [9, 4, 1, 1, 0.5, 0.1]
    plane = embed(torch.from_numpy(features)).numpy()
    values = np.linalg.eigvalsh(np.cov(features.T, bias=True))[::-1]
    assert plane.var(0) == pytest.approx(values[:2])
    assert embed(torch.from_numpy(features), "tsne").shape == (40, 2)
    with pytest.raises(ConfigurationError, match="three or more"):
        embed(torch.zeros(2, 6))


def test_areas_cover_what_the_map_says(tmp_path: Path) -> None:
    from affine import Affine

    classes = np.array([[0, 0, 1], [0, 1, 1], [255, 0, 0]], np.uint8)[None]
    place = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    write_geotiff(tmp_path / "m.tif", classes, transform=place, crs="EPSG:32633", nodata=255)
    found = map_polygons(tmp_path / "m.tif", ["land", "water"])
    assert sorted(zip(found["class"], found.area_m2, strict=True)) == [("land", 200), ("land", 300), ("water", 300)]


def test_a_band_of_one_value_is_left_out_and_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for name in ("wood", "field"):
        for number in range(8):
            pixels = rng.integers(1, 200, (4, 16, 16)).astype(np.uint8)
            pixels[2] = 7
            path = tmp_path / "chips" / name / f"{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            where = rasterio.Affine(10, 0, 4e5 + 1000 * number, 0, -10, 5e6 if name == "wood" else 6e6)
            write_geotiff(path, pixels, transform=where, crs="EPSG:32633", descriptions=["a", "b", "c", "d"])
    data = [str(tmp_path / "chips")]
    choices = choose(FitRequest(data, tmp_path / "run", weights="none"))
    assert choices.configuration["data"]["bands"] == ["a", "b", "d"]
    why = next(reason for what, _, reason in choices.lines if what == "bands")
    assert "without c, of one value" in why
    values = choices.configuration["data"]
    kept = Path(values["statistics_file"])
    before = kept.stat().st_mtime_ns
    fit_data = FitData(**values)
    fit_data.prepare_data()
    mean, _ = fit_data.compose("train").normalize
    train = Catalog.open(values["source"]).split("train")
    pixels = np.stack([rasterio.open(path).read([1, 2, 4]) for path in train.column("path")])
    assert mean == pytest.approx((pixels.mean((0, 2, 3)) / 255).tolist())
    assert kept.stat().st_mtime_ns == before, "what was measured for the choice is what the training takes"
    with pytest.raises(ConfigurationError, match="--bands a,c: 'c' has one value"):
        choose(FitRequest(data, tmp_path / "other", weights="none", bands="a,c"))

"""The data module under Lightning and in a plain loop: what trains, what is augmented, and where it goes on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import rasterio
import torch
from scenes import numbers, scene_of, write_raster
from torch import Tensor, nn

from geoaug import Compose
from geoaug.augment import RandomD4
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.datamodule import TileDataModule
from geoaug.data.sampling.survey import catalog_statistics
from geoaug.errors import ConfigurationError
from geoaug.statistics import Statistics

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*litlogger.*"),
    pytest.mark.filterwarnings("ignore:.*`isinstance.treespec, LeafSpec.`.*"),
]


class Recorder(pl.LightningModule):
    """A tiny network that remembers the keys and the images it was trained and validated with."""

    def __init__(self, channels: int, classes: int, *, dense: bool, broken_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Conv2d(channels, classes, 1)
        self.dense, self.broken_at = dense, broken_at
        self.trained: list[list[int]] = []
        self.losses: list[float] = []
        self.validated: list[dict[str, Any]] = []

    def _loss(self, batch: dict[str, Any]) -> Tensor:
        out = self.net(batch["image"])
        if self.dense:
            return nn.functional.cross_entropy(out, batch["mask"], ignore_index=255)
        if batch["label"].is_floating_point():
            return nn.functional.mse_loss(out.mean((1, 2, 3)), batch["label"])
        return nn.functional.cross_entropy(out.mean((2, 3)), batch["label"])

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if self.broken_at is not None and self.global_step == self.broken_at:
            raise RuntimeError("killed")
        loss = self._loss(batch)
        self.trained.append(batch["key"].tolist())
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validated.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(
        accelerator="cpu", devices=1, default_root_dir=folder, enable_model_summary=False, **{**quiet, **options}
    )


def labelled_scenes(folder: Path, count: int = 3, size: int = 128) -> Catalog:
    """Scenes with masks of their own, the last one for validation."""
    records = []
    for number in range(count):
        image = numbers((2, size, size), seed=number)
        image[:, :20, :20] = 0
        path = write_raster(folder / f"s{number}.tif", image, nodata=0, tiled=True, blockxsize=64, blockysize=64)
        mask = write_raster(folder / f"m{number}.tif", (image[:1] > 60).astype(np.uint8))
        records.append(replace(scene_of(path), mask_path=str(mask)))
    catalog = Catalog.from_records(records, classes=["low", "high"])
    return catalog.with_column("split", ["train"] * (count - 1) + ["val"])


def chips(folder: Path) -> Catalog:
    records = []
    for number in range(24):
        kind = ("dark", "bright")[number % 2]
        image = numbers((3, 16, 16), seed=number) + (0 if kind == "dark" else 100)
        path = write_raster(folder / kind / f"{number}.tif", image.astype(np.uint16))
        records.append(replace(scene_of(path), kind="chip", label=kind))
    split = ["val" if number % 4 == 0 else "train" for number in range(24)]
    amounts = [float(number) for number in range(24)]
    return Catalog.from_records(records, classes=["bright", "dark"], attributes={"split": split, "biomass": amounts})


def test_segmentation_trains_on_one_split_and_validates_on_all_of_the_other(tmp_path: Path) -> None:
    module = TileDataModule(
        labelled_scenes(tmp_path), 32, batch_size=4, length=32, classes=2, augment=[RandomD4()], normalize="measure"
    )
    net = Recorder(2, 2, dense=True)
    trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0).fit(net, module)
    assert len(net.trained) == 2 * 8
    keys = [key for batch in net.trained for key in batch]
    assert len(set(keys)) == len(keys) == 64
    assert sum(len(batch["image"]) for batch in net.validated) == 2 * 16
    # The tiles of a grid over the validation scene, scaled by what was measured on the training scenes.
    measured = catalog_statistics(module.catalog.split("train"))
    mean, std = (np.array(part)[:, None, None] for part in (measured.mean, measured.std))
    with rasterio.open(tmp_path / "s2.tif") as file:
        stored = file.read()
    expected = np.where((stored != 0).all(axis=0), (stored - mean) / std, 0)
    for batch in net.validated:
        for image, (row, col, height, width) in zip(batch["image"], batch["window"].tolist(), strict=True):
            np.testing.assert_allclose(image, expected[:, row : row + height, col : col + width], atol=1e-5)


def test_classification_learns_from_chips(tmp_path: Path) -> None:
    module = TileDataModule(chips(tmp_path), batch_size=6, normalize="measure", drop_last=True)
    net = Recorder(3, 2, dense=False)
    trainer(tmp_path, max_epochs=6).fit(net, module)
    assert len(net.trained) == 6 * 3
    assert module.classes == ("bright", "dark")
    assert np.mean(net.losses[-3:]) < np.mean(net.losses[:3])


def test_a_column_of_numbers_is_learned_as_numbers(tmp_path: Path) -> None:
    module = TileDataModule(chips(tmp_path), batch_size=6, target="biomass")
    net = Recorder(3, 1, dense=False)
    trainer(tmp_path, max_epochs=1).fit(net, module)
    batch = next(iter(module.train_dataloader()))
    assert batch["label"].dtype == torch.float32
    assert [float(name) for name in batch["scene"]] == batch["label"].tolist()


@pytest.mark.parametrize(
    "broken_at", [pytest.param(3, marks=pytest.mark.slow), 8, pytest.param(13, marks=pytest.mark.slow)]
)
def test_a_killed_epoch_goes_on_at_the_same_sample(tmp_path: Path, broken_at: int) -> None:
    catalog = labelled_scenes(tmp_path)

    def module() -> TileDataModule:
        return TileDataModule(catalog, 32, batch_size=4, length=32, classes=2)

    whole = Recorder(2, 2, dense=True)
    trainer(tmp_path, max_epochs=2).fit(whole, module())
    killed = Recorder(2, 2, dense=True, broken_at=broken_at)
    saved = tmp_path / "killed.ckpt"
    first = trainer(tmp_path, max_epochs=2)
    with pytest.raises(RuntimeError, match="killed"):
        first.fit(killed, module())
    first.save_checkpoint(saved)
    resumed = Recorder(2, 2, dense=True)
    trainer(tmp_path, max_epochs=2).fit(resumed, module(), ckpt_path=saved, weights_only=False)
    assert killed.trained + resumed.trained == whole.trained
    np.testing.assert_allclose(killed.losses[:broken_at], whole.losses[:broken_at])


def test_a_checkpoint_between_steps_goes_on_with_the_next_one(tmp_path: Path) -> None:
    catalog = labelled_scenes(tmp_path)

    class Stop(pl.Callback):
        def on_train_batch_end(
            self, trainer: pl.Trainer, net: pl.LightningModule, out: Any, batch: Any, at: int
        ) -> None:
            if trainer.global_step == 5:
                trainer.save_checkpoint(tmp_path / "five.ckpt")
                trainer.should_stop = True
                raise KeyboardInterrupt

    def module() -> TileDataModule:
        return TileDataModule(catalog, 32, batch_size=4, length=32, classes=2)

    whole, stopped, resumed = (Recorder(2, 2, dense=True) for _ in range(3))
    trainer(tmp_path, max_epochs=2).fit(whole, module())
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, max_epochs=2, callbacks=[Stop()]).fit(stopped, module())
    trainer(tmp_path, max_epochs=2).fit(resumed, module(), ckpt_path=tmp_path / "five.ckpt", weights_only=False)
    assert stopped.trained + resumed.trained == whole.trained
    np.testing.assert_allclose(stopped.losses + resumed.losses, whole.losses)


@pytest.mark.parametrize("overfit_batches", [2, 0.5])
def test_overfit_batches_is_refused_with_what_does_the_same(tmp_path: Path, overfit_batches: float) -> None:
    catalog = labelled_scenes(tmp_path)
    module = TileDataModule(catalog, 32, batch_size=4, classes=2, sampler="grid")
    net = Recorder(2, 2, dense=True)
    with pytest.raises(ConfigurationError, match=r"sampler='grid' and the Trainer limit_train_batches"):
        trainer(tmp_path, max_epochs=2, overfit_batches=overfit_batches).fit(net, module)
    places: list[list[Any]] = []

    class Places(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, net: pl.LightningModule, batch: Any, at: int) -> None:
            places.append([batch["scene"], batch["window"].tolist()])

    trainer(tmp_path, max_epochs=2, limit_train_batches=2, callbacks=[Places()]).fit(net, module)
    assert places[:2] == places[2:]
    assert places[0] != places[1]


def test_a_plain_loop_gets_the_same(tmp_path: Path) -> None:
    module = TileDataModule(labelled_scenes(tmp_path), 32, batch_size=4, length=16, augment=[RandomD4()])
    module.setup()
    loader = module.train_dataloader()
    keys: list[list[int]] = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        for number, batch in enumerate(loader):
            if (epoch, number) == (1, 2):
                state = module.state_dict()
            done = module.prepare(batch)
            assert done["image"].dtype == torch.float32
            assert done["mask"].dtype == torch.int64
            keys.append(batch["key"].tolist())
    assert len(keys) == 8
    again = TileDataModule(labelled_scenes(tmp_path), 32, batch_size=4, length=16)
    again.load_state_dict(state)
    assert [batch["key"].tolist() for batch in again.train_dataloader()] == keys[7:]


def test_only_training_is_augmented(tmp_path: Path) -> None:
    module = TileDataModule(labelled_scenes(tmp_path), 32, batch_size=4, length=16, augment=[RandomD4(p=1.0)])
    module.setup()
    batch = next(iter(module.train_dataloader()))
    plain, turned = module.prepare(batch, split="val"), module.prepare(batch, split="train")
    torch.testing.assert_close(plain["image"], torch.where(batch["valid"], batch["image"].float(), 0.0))
    assert not torch.equal(plain["image"], turned["image"])
    torch.testing.assert_close(plain["image"].flatten(2).sort().values, turned["image"].flatten(2).sort().values)


def test_splits_stored_with_other_offsets_come_out_in_one_scale(tmp_path: Path) -> None:
    image = numbers((2, 64, 64), low=10).astype(np.uint16)
    records = []
    for number, offset in enumerate((0, -1000)):
        record = scene_of(write_raster(tmp_path / f"s{number}.tif", (image.astype(int) - offset).astype(np.uint16)))
        records.append(
            replace(record, bands=tuple(replace(b, quantification=100.0, offset=float(offset)) for b in record.bands))
        )
    catalog = Catalog.from_records(records, attributes={"split": ["train", "val"]})
    module = TileDataModule(catalog, 64, batch_size=1, normalize="measure")
    module.setup()
    train = module.prepare(next(iter(module.train_dataloader())), split="train")
    val = module.prepare(next(iter(module.val_dataloader())), split="val")
    torch.testing.assert_close(train["image"], val["image"], atol=1e-4, rtol=1e-4)
    assert abs(float(val["image"].mean())) < 1e-3
    fixed = TileDataModule(catalog, 64, batch_size=1, augment=Compose([], sensor=module.sensor))
    with pytest.raises(ConfigurationError, match="stored with other offsets"):
        fixed.setup()


def test_measured_statistics_are_kept_beside_the_catalog(tmp_path: Path) -> None:
    labelled_scenes(tmp_path).save(tmp_path / "catalog.parquet")
    module = TileDataModule(tmp_path / "catalog.parquet", 32, normalize="measure")
    module.prepare_data()
    [kept] = tmp_path.glob("*.stats.yaml")
    found = Statistics.open(kept)
    assert found.scenes == 2
    # The second time they are read, not measured.
    text = kept.read_text().replace("scenes: 2", "scenes: 7")
    kept.write_text(text)
    again = TileDataModule(tmp_path / "catalog.parquet", 32, normalize="measure")
    assert again.statistics is not None
    assert again.statistics.scenes == 7
    other = TileDataModule(tmp_path / "catalog.parquet", 32, normalize="measure", bands=["B2"])
    assert other.statistics is not None
    assert other.statistics.band_names == ("B2",)


def test_statistics_of_something_else_are_refused(tmp_path: Path) -> None:
    catalog, kept = labelled_scenes(tmp_path), tmp_path / "kept.yaml"

    def module(of: Catalog = catalog, **options: Any) -> TileDataModule:
        return TileDataModule(of, 32, normalize="measure", statistics_file=kept, **options)

    module(bands=["B2"]).prepare_data()
    assert module(bands=["B2"]).statistics is not None
    with pytest.raises(
        ConfigurationError, match=r"kept\.yaml: does not fit .*no statistics of band 'B1'.*measured anew"
    ):
        _ = module().statistics
    scaled = [
        replace(record, bands=tuple(replace(band, offset=-1000.0) for band in record.bands)) for record in catalog
    ]
    other = Catalog.from_records(scaled).with_column("split", ["train", "train", "val"])
    with pytest.raises(ConfigurationError, match=r"kept\.yaml: does not fit .*'B2' is scaled as \(DN -1000\)"):
        _ = module(other, bands=["B2"]).statistics
    kept.write_text(kept.read_text().replace("sensor: generic", "sensor: sentinel-2-l1c"))
    with pytest.raises(ConfigurationError, match="are of sentinel-2-l1c, and the data is of generic"):
        module(bands=["B2"]).setup()


def test_options_that_there_are_not_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"has no option band, widht; .*bands"):
        TileDataModule(labelled_scenes(tmp_path), 32, band="B1", widht=3)


def test_a_catalog_is_split_on_the_way(tmp_path: Path) -> None:
    from scenes import catalog_of

    paths = [write_raster(tmp_path / f"s{number}.tif", numbers((1, 256, 256), seed=number)) for number in range(1)]
    module = TileDataModule(
        catalog_of(*paths), 32, splits={"method": "blocks", "block_m": 640, "buffer_m": 20}, batch_size=4
    )
    module.setup()
    assert module.has_split("val")
    assert module.has_split("test")
    assert len(module.train_dataloader()) > 0
    with pytest.raises(ConfigurationError, match="splits by 'colour'"):
        TileDataModule(catalog_of(*paths), 32, splits={"method": "colour"}).setup()
    with pytest.raises(ConfigurationError, match="no split 'test'"):
        TileDataModule(labelled_scenes(tmp_path / "more"), 32).test_dataloader()


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")
def test_a_catalog_without_splits_is_all_for_training(tmp_path: Path) -> None:
    catalog = labelled_scenes(tmp_path)
    catalog = Catalog(catalog.table.drop_columns(["split"]), catalog.notes)
    module = TileDataModule(catalog, 32, batch_size=8)
    net = Recorder(2, 2, dense=True)
    trainer(tmp_path, max_epochs=1).fit(net, module)
    assert sum(map(len, net.trained)) == 3 * 16
    assert len(list(module.predict_dataloader())) == 6


@pytest.mark.parametrize("kind", ["random", "grid", "function"])
def test_other_orders_may_be_asked_for(tmp_path: Path, kind: str) -> None:
    from geoaug.data.sampling.random_sampler import RandomTileSampler

    made: Any = kind
    if kind == "function":
        made = lambda dataset, length, seed: RandomTileSampler(dataset, 3, seed=seed)  # noqa: E731
    module = TileDataModule(labelled_scenes(tmp_path), 32, batch_size=1, sampler=made, seed=4)
    assert len(module.train_dataloader()) == {"random": 32, "grid": 32, "function": 3}[kind]
    with pytest.raises(ConfigurationError, match="sampler 'spiral'"):
        TileDataModule(labelled_scenes(tmp_path), 32, sampler="spiral")


def test_a_batch_is_drawn(tmp_path: Path) -> None:
    module = TileDataModule(labelled_scenes(tmp_path), 32, batch_size=4)
    batch = next(iter(module.train_dataloader()))
    scores = torch.randn(4, 2, 32, 32)
    figure = module.plot(batch, scores, count=3, title="three")
    assert len(figure.axes) == 3 * 3
    assert {"low", "high", "three"} <= {text.get_text() for text in figure.texts}

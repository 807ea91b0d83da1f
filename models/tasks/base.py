"""The contract of a task, and what all tasks share: augmentation on the device, stages, the average, resuming.

A task is one class in one file: how wrong an answer is, how it is measured, what a map and a table of answers hold, and
which data `geoaug fit` trains it on. Which tasks there are is in `registry`; how a training goes is the value
`training.Training`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from geoaug.augment.compose import Compose
from geoaug.augment.mixing import RandomMixUp
from geoaug.augment.test_time import Activation
from geoaug.data.loading.dataset import ChipTargets, TileDataset
from geoaug.errors import ConfigurationError
from geoaug.models.networks.architecture import Network
from geoaug.models.networks.batchnorm import warn_of_small_batch
from geoaug.models.networks.card import ClassName, ModelCard, sensor_to_dict
from geoaug.models.tasks.losses import LossChoice
from geoaug.models.tasks.training import (
    Stage,
    StagePlan,
    Training,
    averaged_network,
    depth_of,
    learning_rate_factors,
    modules_by_depth,
)
from geoaug.rng.draws import sample_keys

__all__ = ["Evidence", "GeoTask", "MapLayer", "Monitor", "Part", "TrainingData", "check_one_target"]

Part = Literal["val", "test"]
Monitor = tuple[str, Literal["min", "max"]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of data before anything is read of them, by which `geoaug fit` finds the task.

    Attributes:
        target: the column of the catalog to learn, where one was asked for.
        numbers: whether that column holds numbers; names of classes otherwise.
        labels: the file of labels, where one was given.
        chips_have_labels: whether each chip has a class, as by its folder.
        scenes_have_masks: whether scenes have masks beside them.
    """

    target: str | None = None
    numbers: bool = False
    labels: str | None = None
    chips_have_labels: bool = False
    scenes_have_masks: bool = False


class TrainingData(Protocol):
    """What a task asks of the data that `geoaug fit` trains it on; `FitData` is such."""

    class_ids: list[int] | None
    class_names: list[str] | None

    @property
    def classes(self) -> tuple[str, ...]: ...

    def dataset(self, split: str) -> TileDataset: ...

    def names_of_classes(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True, eq=False)
class MapLayer:
    """One file of a predicted map, `SCENE_NAME.tif`.

    Attributes:
        name: what is in it, such as "classes".
        count: bands.
        dtype: of the pixels.
        nodata: where there is no data.
        pixels: from answers (channels, height, width), float32, to pixels (count, height, width). The channels are the
            network's outputs in the target's units, then entropy and mutual information where these were asked for.
        categorical: whether the pixels are ids, of which no mean may be taken.
        colormap: red, green, blue and alpha of each id, 0..255.
        tags: of the file.
        descriptions: of the bands.
        scales: of the bands: value = scale * pixel.
    """

    name: str
    count: int
    dtype: str
    nodata: float
    pixels: Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]
    categorical: bool = False
    colormap: Mapping[int, tuple[int, int, int, int]] | None = None
    tags: Mapping[str, str] | None = None
    descriptions: Sequence[str] | None = None
    scales: Sequence[float] | None = None


class GeoTask(pl.LightningModule):
    """A network, what stands before it, how it is trained, and what its answers mean.

    Batches are dicts as `Compose` takes them; `image` may be digital numbers, which `augment` scales, augments in
    training and normalises, on the device. The task's own mode switches it, as it switches batch norm and dropout.

    A task of your own is a subclass in a file of its own. It overrides what stands under *What a task is about*, and
    where `geoaug fit` shall train it, what stands under *How `geoaug fit` trains it*; see `ClassTask` and
    `RegressionTask`. Class methods know a model by its card alone. They are called from one thread, `MapLayer.pixels`
    from another one, in the order of the windows.

    Args:
        network: one of ours, or any other whose parts are called as torchvision's ResNets call them.
        augment: None where batches come ready for the network.
        training: how it is trained.

    Attributes:
        task: the name that model files have for it; of a task outside geoaug, the name of its entry point, or its
            module and class ("mylab.depth.DepthTask").
        pixels: whether it answers for each pixel, and not once for a chip.
        has_classes: whether its answers are classes with names, which the data tell.
        has_uncertainty: whether entropies over passes with dropout mean something.
        monitored: the metric that tells the better epoch, and which way is better; None where `geoaug fit` does not
            train the task.
        loss_defaults: values of `LossChoice` that `geoaug fit` begins with.
    """

    task: str
    pixels: bool = False
    has_classes: ClassVar[bool] = False
    has_uncertainty: ClassVar[bool] = False
    monitored: ClassVar[Monitor | None] = None
    loss_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    metrics: nn.ModuleDict

    def __init__(self, network: nn.Module, augment: Compose | None = None, training: Training | None = None) -> None:
        super().__init__()
        self.network = network
        self.augment = augment
        self.training_plan = training or Training()
        decay = self.training_plan.ema_decay
        self.averaged = None if decay is None else averaged_network(network, decay)
        self.mix: RandomMixUp | None = None
        self.save_hyperparameters({"task": type(self).__name__, **self.training_plan.to_dict()})
        # What was frozen by hand stays frozen in every stage.
        self._fixed = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
        self._stage: Stage | None = None
        self._steps_averaged = 0

    # What a task is about: in training.

    def loss_of(self, answer: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """How wrong an answer is: one number, with a gradient.

        Args:
            answer: of the network, (B, K) or (B, K, H, W), float32.
            batch: as `augment` left it, with the targets under the keys that the data have for them.
        """
        raise NotImplementedError

    def measure(self, part: Part, answer: Tensor, batch: Mapping[str, Any]) -> None:
        """Take an answer into the metrics."""
        raise NotImplementedError

    def report(self, part: Part) -> None:
        """Log the metrics of a part, and start them anew."""
        raise NotImplementedError

    def readable_answer(self, answer: Tensor) -> Tensor:
        """Logits as probabilities; numbers in the target's units."""
        raise NotImplementedError

    def class_names(self) -> tuple[ClassName, ...]:
        """The classes with colours of their own; none for numbers."""
        return ()

    @property
    def monitor(self) -> Monitor:
        """The metric that tells the better epoch of this training, and which way is better."""
        return self.monitored or ("val/loss", "min")

    # What a task is about: in prediction, from a model's card alone.

    @classmethod
    def activation(cls, card: ModelCard) -> Activation | None:
        """What makes probabilities of the network's answers, before views of a scene are averaged; None for none."""
        return None

    @classmethod
    def in_units(cls, card: ModelCard, answers: Tensor) -> Tensor:
        """Averaged answers (B, K, ...) in the units of the target."""
        return answers

    @classmethod
    def entropy(cls, card: ModelCard, answers: Tensor) -> Tensor:
        """How undecided answers (B, K, ...) are, 0..1: (B, 1, ...). For tasks with `has_uncertainty`."""
        raise NotImplementedError

    @classmethod
    def map_layers(cls, card: ModelCard, *, probabilities: bool = False, uncertainty: bool = False) -> list[MapLayer]:
        """The files that a map consists of.

        Args:
            card: of the model.
            probabilities: whether those of classes are asked for.
            uncertainty: whether entropy and mutual information are, which stand behind the outputs.

        Raises:
            ConfigurationError: this model makes no map.
        """
        raise NotImplementedError

    @classmethod
    def chip_columns(
        cls, card: ModelCard, answers: npt.NDArray[np.float32], *, uncertainty: bool = False
    ) -> dict[str, Any]:
        """The columns of the table of predicted chips.

        Args:
            card: of the model.
            answers: (chips, channels), channels as for `MapLayer`.
            uncertainty: whether entropy and mutual information stand behind the outputs.
        """
        raise NotImplementedError

    @classmethod
    def picture_ids(cls, card: ModelCard, answers: Tensor) -> Tensor:
        """For pictures of chips, the class that each answer (B, K) or (B, K, H, W) names, (B,); -1 where none does."""
        return torch.full((len(answers),), -1)

    # How `geoaug fit` trains it.

    @classmethod
    def suits(cls, evidence: Evidence) -> str | None:
        """Why data are for this task, where no task is named; None where they are not."""
        return None

    @classmethod
    def check_evidence(cls, evidence: Evidence) -> None:
        """Raise `ConfigurationError` where data lack what the task learns from; before anything is read."""

    @classmethod
    def check_data(cls, data: TrainingData) -> None:
        """Raise `ConfigurationError` where the training split lacks what the task learns from."""

    @classmethod
    def outputs_for(cls, data: TrainingData) -> int:
        """The answers of a network that learns these data."""
        return 1

    @classmethod
    def for_data(
        cls, network: nn.Module, data: TrainingData, augment: Compose, training: Training, loss: LossChoice
    ) -> Self:
        """The task, as a configuration describes it, for a network and the data that it learns."""
        raise NotImplementedError

    @classmethod
    def for_model(
        cls, network: nn.Module, card: ModelCard, data: TrainingData, augment: Compose, loss: LossChoice
    ) -> Self:
        """The task of a trained network, to be measured on data.

        Raises:
            ConfigurationError: the data are of other classes.
        """
        raise NotImplementedError

    def metrics_of(self, part: Part) -> MetricCollection:
        """The metrics of validation or test."""
        collection = self.metrics[part]
        assert isinstance(collection, MetricCollection)
        return collection

    # The network.

    @property
    def evaluated(self) -> nn.Module:
        """The network that predicts: the average where there is one."""
        return self.network if self.averaged is None else self.averaged.module

    def forward(self, image: Tensor) -> Tensor:
        """The network's answer to images that are ready for it."""
        network = self.network if self.training else self.evaluated
        return network(image)  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> GeoTask:
        """Switch the mode of everything but the parts that the stage freezes, and the average."""
        super().train(mode)
        if self.averaged is not None:
            self.averaged.eval()
        if mode and self._stage is not None:
            for depth, modules in modules_by_depth(self.network).items():
                if depth not in self._stage.depths:
                    for module in modules:
                        module.eval()
        return self

    # The steps.

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if not isinstance(batch, Mapping) or "image" not in batch:
            raise ConfigurationError("a batch is a dict with a tensor under 'image'")
        batch = dict(batch)
        if batch.get("key") is None and isinstance(batch.get("index"), Tensor):
            batch["key"] = sample_keys(self.training_plan.seed, batch["index"], epoch=self.current_epoch)
        if self.augment is not None:
            batch = self.augment(batch)
        if self.training and self.mix is not None:
            batch = self.mix(batch)
        if not batch["image"].is_floating_point():
            raise ConfigurationError(
                f"the image is {batch['image'].dtype}: give the task augment=Compose(...), which scales and normalises"
            )
        return batch

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        answer = self(batch["image"])
        with self._full_precision():
            loss = self.loss_of(_widened(answer), batch)
        size = len(batch["image"])
        if batch_idx == 0:  # of every epoch, because another stage may train other norms
            warn_of_small_batch(self.network, size)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True)
        return loss

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        self._evaluate("test", batch)

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        return self.readable_answer(self(batch["image"]))

    def on_validation_epoch_end(self) -> None:
        self.report("val")

    def on_test_epoch_end(self) -> None:
        self.report("test")

    def _evaluate(self, part: Part, batch: Mapping[str, Any]) -> None:
        # A network is measured as it predicts, in float32, so that a model file's metrics are those of the model file.
        with self._full_precision():
            answer = _widened(self(batch["image"]))
            loss = self.loss_of(answer, batch)
            self.measure(part, answer, batch)
        self.log(f"{part}/loss", loss, prog_bar=True, batch_size=len(batch["image"]), sync_dist=True)

    def _full_precision(self) -> AbstractContextManager[Any]:
        """Without the trainer's narrower numbers, where it has such."""
        kind = self.device.type
        return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()

    # How the training goes.

    def configure_optimizers(self) -> Any:
        training, trainer = self.training_plan, self.trainer
        optimizer = training.build_optimizer(self.network)
        epochs = self._epochs()
        per_epoch = trainer.estimated_stepping_batches / epochs
        depths = [group["depth"] for group in optimizer.param_groups]
        factors = learning_rate_factors(training, epochs, per_epoch, depths)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "lr"}}

    def on_train_start(self) -> None:
        self._steps_averaged = self.trainer.global_step
        self._enter(self._stage_now())
        if self.trainer.world_size > 1:
            # What each process draws from here on is its own, and the same after a resume.
            state = (self.training_plan.seed << 32) + (self.trainer.global_step << 12) + self.trainer.global_rank
            torch.manual_seed(state % 2**63)

    def on_train_epoch_start(self) -> None:
        stage = self._stage_now()
        if stage != self._stage:
            self._enter(stage)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Several processes agree beforehand on whose gradients they exchange, so there all are computed; what the
        # stage freezes is then left alone by having none.
        assert self._stage is not None
        for group in optimizer.param_groups:
            if group["depth"] not in self._stage.depths:
                for parameter in group["params"]:
                    parameter.grad = None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.averaged is not None and self.trainer.global_step > self._steps_averaged:
            self.averaged.update_parameters(self.network)
            self._steps_averaged = self.trainer.global_step

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        checkpoint["geoaug_random"] = states
        if isinstance(self.network, Network):
            checkpoint["geoaug"] = {
                "architecture": self.network.architecture.to_dict(),
                "sensor": sensor_to_dict(self.network.sensor),
                "classes": [one.name for one in self.class_names()],
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Dropout, and samplers that draw from torch's generator, go on as if nothing had happened.
        states = checkpoint.get("geoaug_random")
        if self._trainer is None or not self._trainer.training or states is None:
            return
        torch.set_rng_state(states["cpu"].cpu())
        if "cuda" in states and self._trainer.strategy.root_device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"].cpu(), self._trainer.strategy.root_device)

    def _epochs(self) -> int:
        trainer = self.trainer
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            return trainer.max_epochs
        if trainer.max_steps > 0:
            return max(-(-trainer.max_steps // max(int(trainer.num_training_batches), 1)), 1)
        raise ConfigurationError("a schedule needs an end: Trainer(max_epochs=...) or max_steps=...")

    def _stage_now(self) -> Stage:
        stage, _ = StagePlan(self.training_plan.stages, self._epochs()).at(self.current_epoch)
        return stage

    def _enter(self, stage: Stage) -> None:
        self._stage = stage
        alone = self.trainer.world_size == 1
        for name, parameter in self.network.named_parameters():
            if name not in self._fixed:
                parameter.requires_grad_(not alone or depth_of(name) in stage.depths)
        self.train()

    # What is left of it.

    def card(self, **facts: Any) -> ModelCard:
        """What is known of the trained network, for `save_model`.

        Args:
            **facts: fields of `ModelCard` that the task does not know: `gsd_m`, `tile_size`, `recipe`, `classes` with
                their colours.

        Raises:
            ConfigurationError: a network that is none of ours.
        """
        network = self.network
        if not isinstance(network, Network):
            raise ConfigurationError("a model card is for networks of geoaug.models, which know what they are made of")
        bands = network.architecture.bands
        mean, std = (0.0,) * bands, (1.0,) * bands
        sensor = network.sensor
        known: dict[str, Any] = {}
        if self.augment is not None:
            mean, std = self.augment.normalize or (mean, std)
            known = {"units": self.augment.out_units, "ignore_index": self.augment.ignore_index}
            sensor = self.augment.sensor or sensor
        measured = {} if self._trainer is None else self._trainer.callback_metrics
        metrics = {name: float(value) for name, value in measured.items() if "/" in name}
        card = ModelCard(
            network.architecture,
            sensor,
            self.task,
            mean=mean,
            std=std,
            multilabel=bool(getattr(self, "multilabel", False)),
            classes=self.class_names(),
            training=self.training_plan.to_dict(),
            metrics=metrics,
            **known,
        )
        return replace(card, **facts)


def check_one_target(targets: ChipTargets) -> None:
    """Raise `ConfigurationError` where chips have several classes each, which `geoaug fit` does not learn."""
    if targets.several:
        raise ConfigurationError(
            "the target has several classes for a chip, and geoaug fit learns one: in Python, train "
            "ClassificationTask(multilabel=True) on TileDataModule(target=...)"
        )


def _widened(answer: Tensor) -> Tensor:
    """Half precision as float32: a loss sums over many pixels."""
    return answer.float() if answer.dtype in (torch.float16, torch.bfloat16) else answer

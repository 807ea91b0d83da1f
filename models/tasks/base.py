"""What the Lightning tasks share: augmentation on the device, stages, the average, and resuming where they stopped.

What a task is about (loss, metrics, answers) is in `tasks`; how a training goes is the value `training.Training`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from geoaug.augment.compose import Compose
from geoaug.augment.mixing import RandomMixUp
from geoaug.errors import ConfigurationError
from geoaug.models.networks.architecture import Network
from geoaug.models.networks.batchnorm import warn_of_small_batch
from geoaug.models.networks.card import ClassName, ModelCard, Task, sensor_to_dict
from geoaug.models.tasks.ema import averaged_network
from geoaug.models.tasks.stages import Stage, StagePlan, depth_of, modules_by_depth
from geoaug.models.tasks.training import Training, learning_rate_factors
from geoaug.rng.draws import sample_keys

__all__ = ["GeoTask"]

Part = Literal["val", "test"]


class GeoTask(pl.LightningModule):
    """A network, what stands before it, and how it is trained.

    Batches are dicts as `Compose` takes them; `image` may be digital numbers, which `augment` scales, augments in
    training and normalises, on the device. The task's own mode switches it, as it switches batch norm and dropout.

    Args:
        network: one of ours, or any other whose parts are called as torchvision's ResNets call them.
        augment: None where batches come ready for the network.
        training: how it is trained.
    """

    task: Task
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

    # What a task is about.

    def loss_of(self, answer: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """How wrong an answer is."""
        raise NotImplementedError

    def measure(self, part: Part, answer: Tensor, batch: Mapping[str, Any]) -> None:
        """Take an answer into the metrics."""
        raise NotImplementedError

    def report(self, part: Part) -> None:
        """Log the metrics of a part, and start them anew."""
        raise NotImplementedError

    def readable_answer(self, answer: Tensor) -> Tensor:
        """Logits as probabilities; numbers as they are."""
        raise NotImplementedError

    def _metrics(self, part: Part) -> MetricCollection:
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

    def class_names(self) -> tuple[ClassName, ...]:
        """The classes with colours of their own; none for numbers."""
        return ()


def _widened(answer: Tensor) -> Tensor:
    """Half precision as float32: a loss sums over many pixels."""
    return answer.float() if answer.dtype in (torch.float16, torch.bfloat16) else answer

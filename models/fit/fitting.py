"""A training from a configuration to one model file: `geoaug fit`, `validate` and `test`, but for the command line.

A configuration is what LightningCLI reads: `data` (`FitData`), `model` (`build_task`), `trainer` (Lightning's) and
`run` (`RunSettings`). Whether a person wrote it or `choices`, makes no difference here. Everything goes to one folder:
`model.safetensors`, `config.yaml`, `curves.csv`, `curves.png`, `checkpoints/` and `logs/`.
"""

from __future__ import annotations

import inspect
import json
import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger

from geoaug.data.loading.dataset import TileDataset
from geoaug.errors import ConfigurationError
from geoaug.io.augmenter import choose_device
from geoaug.io.geotiff import replace_file
from geoaug.models.fit.curves import Curves, silent
from geoaug.models.fit.data import FitAugment, FitData
from geoaug.models.fit.devices import is_first_process, lay_out
from geoaug.models.fit.task import build_task, task_of_model
from geoaug.models.networks.model_file import LoadedModel, load_model, save_model
from geoaug.models.predict.trained_gsd import check_gsd, trained_gsd
from geoaug.models.tasks.base import GeoTask

__all__ = ["Fitted", "RunSettings", "evaluate", "fit", "read_configuration"]

MODEL_FILE, CONFIG_FILE = "model.safetensors", "config.yaml"
_LAST = Path("checkpoints", "last.ckpt")
_PARTS: dict[str, Literal["val", "test"]] = {"validate": "val", "test": "test"}


@dataclass(frozen=True)
class RunSettings:
    """Where a training goes, and when it ends early.

    Args:
        output: the folder.
        patience: epochs without a better validation before the training stops; 0 for never.
        monitor: the metric that says what is better; by default the task's own, such as val/accuracy.
        mode: "max" or "min" is better; by default that of the task's metric.
    """

    output: str = "fitted"
    patience: int = 0
    monitor: str | None = None
    mode: Literal["min", "max"] | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a training left.

    Attributes:
        model: the model file, of the best epoch.
        metrics: of the best epoch on the validation split, and on the test split where there is one.
        epochs: that were trained.
    """

    model: Path
    metrics: dict[str, float]
    epochs: int


class _Cli(LightningCLI):
    """LightningCLI that parses and builds, and leaves the running to us."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(RunSettings, "run")
        # A default that is an instance could not be written to a file.
        parser.set_defaults({"model.training.stages": [{"train": "all"}]})
        parser.link_arguments("data", "model.data", apply_on="instantiate")


class _Parser(_Cli):
    """Parses alone."""

    def instantiate_classes(self) -> None:
        return


def read_configuration(arguments: Sequence[str], kind: type[_Cli] = _Cli) -> _Cli:
    """Parse `--config FILE` and `--name.of.value VALUE`, and build data, task and trainer.

    Raises:
        ConfigurationError: a mistake in them, in one line.
    """
    defaults = {"logger": False, "enable_checkpointing": False, "num_sanity_val_steps": 0, "log_every_n_steps": 10}
    defaults["enable_model_summary"] = False
    try:
        with _calm():
            return kind(
                build_task,
                FitData,
                save_config_callback=None,
                trainer_defaults=defaults,
                seed_everything_default=0,
                parser_kwargs={"exit_on_error": False, "allow_abbrev": False},
                auto_configure_optimizers=False,
                args=list(arguments),
                run=False,
            )
    except Exception as error:
        if type(error).__name__ != "ArgumentError":
            raise
        raise ConfigurationError(f"configuration: {_short(str(error))}") from error


def fit(
    arguments: Sequence[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    tell: Callable[[str], None] = silent,
    bar: bool = False,
) -> Fitted:
    """Train as a configuration says, and leave one model file.

    Args:
        arguments: `--config FILE` and overrides, as on the command line.
        resume: go on from the last checkpoint in the folder.
        overwrite: begin anew in a folder that holds a training.
        tell: called with a line now and then.
        bar: whether a progress bar is drawn on stderr.

    Raises:
        ConfigurationError: a mistake in the configuration, or the folder holds a training already.
        GeoaugError: what else goes wrong on purpose.
    """
    cli = read_configuration(arguments)
    run, task, data = _settings(cli), cli.model, cli.datamodule
    folder = Path(run.output)
    last = folder / _LAST
    if resume and not last.is_file():
        raise ConfigurationError(f"{last}: no such checkpoint; there is nothing to resume")
    if not resume and last.exists() and not overwrite:
        raise ConfigurationError(
            f"{folder}: holds a training already; go on with --resume, begin anew with --overwrite, or take another -o"
        )
    metric, mode = _monitor(run, task, data)
    text = cli.parser.dump(cli.config, skip_none=False)
    curves = Curves(folder, tell, ("train/loss", "val/loss", metric))
    if is_first_process():
        _prepare(folder, text, keep=resume)
    keep: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    keeper = ModelCheckpoint(folder / _LAST.parent, filename="best", monitor=metric, mode=mode, **keep)
    # One of its own and after the other: `save_last` saves only epochs that are better than those before.
    last_keeper = ModelCheckpoint(folder / _LAST.parent, filename=_LAST.stem, **keep)
    watchers: list[Callback] = [curves, keeper, last_keeper]
    if run.patience > 0:
        watchers.append(EarlyStopping(metric, mode=mode, patience=run.patience, check_on_train_epoch_end=True))
    trainer = _equipped(cli.trainer, folder, watchers, bar)
    lay_out(task, trainer.strategy.root_device)
    with _calm():
        _fit(trainer, task, data, last if resume else None)
        if not curves.rows:  # the epochs were in processes of their own
            curves.load_state_dict(_checkpoint(last)["callbacks"][curves.state_key])
        best = Path(keeper.best_model_path) if keeper.best_model_path else last
        found = _checkpoint(best)
        task.load_state_dict(found["state_dict"])
        metrics = _of_epoch(curves.rows, int(found["epoch"]) + 1)
        if data.has_split("test"):
            metrics |= _measured(trainer, task, data, "test")
    path = folder / MODEL_FILE
    if trainer.is_global_zero:
        save_model(path, task.evaluated, _card(task, data, metrics, text))
    return Fitted(path, metrics, len(curves.rows))


def evaluate(
    how: Literal["validate", "test"],
    *,
    model: str | Path | None = None,
    arguments: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    device: str = "auto",
    ignore_gsd: bool = False,
    bar: bool = False,
) -> dict[str, float]:
    """Metrics of a model file on the validation or test split.

    Args:
        how: "validate" or "test".
        model: the file; by default that of the configuration's folder.
        arguments: a configuration, as for `fit`; without one, the model's own data.
        data: values of `FitData` that replace those of the model.
        folder: for the confusion matrix as a picture and `metrics.json`; by default none.
        device: "auto", "cpu" or "cuda".
        ignore_gsd: whether to measure at another ground sampling distance than that of the training.
        bar: whether a progress bar is drawn.

    Raises:
        ConfigurationError: nothing to evaluate, or model and data do not fit together.
    """
    if arguments:
        values, output = _data_values(arguments)
        model = Path(output) / MODEL_FILE if model is None else model
    elif model is None:
        raise ConfigurationError("name a model file, or a --config whose folder holds one")
    where = choose_device(device)
    loaded = load_model(model)
    if not arguments:
        values = _data_of_model(loaded, data)
    values = {**values, **(data or {})}
    with _calm():
        module = FitData(**{**values, **_as_trained(loaded)})
        part = _PARTS[how]
        if not module.has_split(part):
            raise ConfigurationError(
                f"the data have no split '{part}': make one with geoaug split, or name the one that is meant (--split, "
                "or names of the data)"
            )
        task = task_of_model(loaded, module)
        if not ignore_gsd:
            gsd = _given_gsd(module, module.dataset(part))
            check_gsd(gsd, loaded.card.gsd_m, f"the split '{part}'", "bring the data there (gsd_m of the data)")
        trainer = pl.Trainer(
            accelerator="gpu" if where.type == "cuda" else where.type, devices=[where.index] if where.index else 1,
            logger=False, enable_checkpointing=False, enable_progress_bar=bar,
            enable_model_summary=False,
        )  # fmt: skip
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            trainer = _equipped(trainer, Path(folder), [], bar)
        lay_out(task, trainer.strategy.root_device)
        metrics = _measured(trainer, task, module, part)
    if folder is not None:
        replace_file(Path(folder) / f"{part}.json", json.dumps(metrics, indent=2).encode())
    return metrics


def _prepare(folder: Path, configuration: str, *, keep: bool) -> None:
    """The folder with its configuration, and without checkpoints of a training that is begun anew."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / CONFIG_FILE, configuration.encode())
    if not keep:
        for old in (folder / "checkpoints").glob("*.ckpt"):
            old.unlink()


def _checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of ours, with the state of generators."""
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    return found


def _settings(cli: _Cli) -> RunSettings:
    found: RunSettings = cli.config_init["run"]
    return found


def _monitor(run: RunSettings, task: GeoTask, data: FitData) -> tuple[str, Literal["min", "max"]]:
    metric, mode = task.monitor
    if not data.has_split("val"):
        metric, mode = "train/loss_epoch", "min"
    return run.monitor or metric, run.mode or ("min" if run.monitor and "loss" in run.monitor else mode)


def _equipped(trainer: Any, folder: Path, watchers: Sequence[Callback], bar: bool) -> Any:
    """The trainer with our folder, loggers and callbacks in place of those that it does not have."""
    logs = folder / "logs"
    version = f"run_{len(list(logs.glob('run_*')))}"
    trainer.loggers = [CSVLogger(folder, name="logs", version=version)]
    if find_spec("tensorboard") is not None:
        from pytorch_lightning.loggers import TensorBoardLogger

        trainer.loggers = [*trainer.loggers, TensorBoardLogger(folder, name="logs", version=version)]
    kept = [one for one in trainer.callbacks if bar or not isinstance(one, pl.callbacks.ProgressBar)]
    trainer.callbacks = [*kept, *[one for one in watchers if not isinstance(one, ModelCheckpoint)]]
    trainer.callbacks += [one for one in watchers if isinstance(one, ModelCheckpoint)]
    return trainer


def _fit(trainer: pl.Trainer, task: GeoTask, data: FitData, checkpoint: Path | None) -> None:
    options: dict[str, Any] = {} if checkpoint is None else {"ckpt_path": str(checkpoint)}
    if checkpoint is not None and "weights_only" in inspect.signature(trainer.fit).parameters:
        options["weights_only"] = False  # our own checkpoint, with the state of generators
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(task, datamodule=data, **options)
    except SystemExit:
        # Lightning ends the process on Ctrl-C, deaf to a second one; how it ends is for the caller to say.
        if not trainer.interrupted:
            raise
        if main:
            signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def _measured(trainer: pl.Trainer, task: GeoTask, data: FitData, part: Literal["val", "test"]) -> dict[str, float]:
    assert isinstance(task.augment, FitAugment)
    task.augment.stage = part
    run = trainer.validate if part == "val" else trainer.test
    run(task, datamodule=data, verbose=False)
    task.augment.stage = "val"
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(f"{part}/")}


def _of_epoch(rows: Sequence[Mapping[str, float]], epoch: int) -> dict[str, float]:
    row = next((row for row in rows if row["epoch"] == epoch), {})
    return {name: value for name, value in row.items() if "/" in name} | {"epoch": float(epoch)}


def _card(task: GeoTask, data: FitData, metrics: Mapping[str, float], text: str) -> Any:
    dataset = data.dataset("train")
    recipe = data.recipe
    card = task.card(
        gsd_m=_given_gsd(data, dataset),
        tile_size=_given_size(data, dataset),
        recipe=None if recipe is None else recipe.resolved(),
        metrics=dict(metrics),
    )
    weights = getattr(getattr(task, "loss_function", None), "class_weights", None)
    return replace(
        card,
        training={
            **card.training,
            "configuration": yaml.safe_load(text),
            "class_weights": weights.tolist() if isinstance(weights, torch.Tensor) else None,
        },
    )


def _given_size(data: FitData, dataset: TileDataset) -> int:
    """The side of what the network is given."""
    return max(dataset.size) if data.options.output_size is None else int(np.max(data.options.output_size))


def _given_gsd(data: FitData, dataset: TileDataset) -> float | None:
    """The ground sampling distance of what the network is given."""
    return trained_gsd(dataset, _given_size(data, dataset) if data.fit == "resize" else None)


def _data_values(arguments: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The data and the folder of a configuration, without building its network."""
    found = read_configuration(arguments, _Parser).config.as_dict()
    return dict(found["data"]), str(found["run"]["output"])


def _data_of_model(loaded: LoadedModel, given: Mapping[str, Any] | None) -> dict[str, Any]:
    configuration = loaded.card.training.get("configuration")
    if configuration is None:
        if given is None or "source" not in given:
            raise ConfigurationError("this model was not made by geoaug fit and knows no data: name them with --data")
        return {"size": loaded.card.tile_size}
    values = dict(configuration["data"])
    if given is not None and "source" in given:
        # Other data have other splits, classes of their own names, and labels elsewhere.
        for name in ("splits", "names", "labels", "statistics_file", "length"):
            values.pop(name, None)
    return values


def _as_trained(loaded: LoadedModel) -> dict[str, Any]:
    """What does not follow the data: bands and normalisation of the model."""
    card = loaded.card
    return {"bands": list(card.sensor.band_names), "mean": list(card.mean), "std": list(card.std), "recipe": None}


@contextmanager
def _calm() -> Iterator[None]:
    """Lightning's advice is for who writes the loop; here it would drown what matters."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            warnings.filterwarnings("ignore", module="lightning_fabric")
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _short(text: str) -> str:
    """An error of the parser in one line, without the lines about how to use it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:4])[:600]

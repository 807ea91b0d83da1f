"""The model card: what is known of a trained model besides its weights, and how it lies in a safetensors file.

Reads the card and the tensors of a file. Building the network that they belong to is in `model_file`.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from torch import Tensor

from geoaug.errors import ConfigurationError
from geoaug.models.networks.architecture import Architecture
from geoaug.models.tasks.registry import is_task_name, package_of_task, task_names
from geoaug.sensors import Band, Sensor

__all__ = ["ClassName", "ModelCard", "read_card", "read_tensors", "sensor_from_dict", "sensor_to_dict"]

# The key of the metadata of a safetensors file that the card stands under.
CARD_KEY = "geoaug"
# The key of the digest over card and tensors.
DIGEST_KEY = "geoaug.sha256"

_FORMAT = 1
_LIBRARIES = ("geoaug", "torch", "torchvision", "pytorch-lightning", "segmentation-models-pytorch", "kornia")


@dataclass(frozen=True, slots=True)
class ClassName:
    """A class: its name, and its colour in pictures and colour tables (red, green, blue, 0..255)."""

    name: str
    colour: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Everything that using a model takes besides its weights.

    Attributes:
        architecture: what the network is made of.
        sensor: the bands that it is given, in order, with how digital numbers become reflectance.
        task: what it answers: the name of a task; see `geoaug.models.tasks.registry`.
        mean: taken off each band in `units`.
        std: that each band is divided by afterwards.
        multilabel: whether several classes hold at once.
        units: of the input before normalisation, as `Compose(out_units=...)` has them.
        gsd_m: ground sampling distance that it was trained at, metres.
        tile_size: that it was trained at, pixels.
        classes: by their ids; empty for numbers.
        ignore_index: label of pixels without a label.
        recipe: of augmentation, resolved.
        training: how it was trained: stages, schedule, seed and so on.
        metrics: that it reached, by name.
        versions: of the libraries that made it, and of the package of a task from outside geoaug.
    """

    architecture: Architecture
    sensor: Sensor
    task: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    multilabel: bool = False
    units: Literal["reflectance", "dn", "db"] = "reflectance"
    gsd_m: float | None = None
    tile_size: int | None = None
    classes: tuple[ClassName, ...] = ()
    ignore_index: int = 255
    recipe: Mapping[str, Any] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bands = self.architecture.bands
        for what, count in (("bands", len(self.sensor)), ("means", len(self.mean)), ("deviations", len(self.std))):
            if count != bands:
                raise ConfigurationError(f"a model card has {count} {what} for a network of {bands} bands")
        if not isinstance(self.task, str) or not is_task_name(self.task):
            raise ConfigurationError(
                f"task={self.task!r} is one of {', '.join(task_names())}, or a module and a class in it; a package "
                "that offers it may be missing here"
            )
        if self.classes and len(self.classes) != self.architecture.outputs:
            binary = self.architecture.outputs == 1 and len(self.classes) == 2
            if not binary:
                raise ConfigurationError(
                    f"a model card names {len(self.classes)} classes for a network of {self.architecture.outputs}"
                )

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "format": _FORMAT,
            **{name: getattr(self, name) for name in _PLAIN},
            "architecture": self.architecture.to_dict(),
            "sensor": sensor_to_dict(self.sensor),
            "mean": list(self.mean),
            "std": list(self.std),
            "classes": [{"name": one.name, "colour": list(one.colour)} for one in self.classes],
            "recipe": None if self.recipe is None else dict(self.recipe),
            **{name: dict(getattr(self, name)) for name in ("training", "metrics", "versions")},
        }

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> ModelCard:
        """From `to_dict`.

        Raises:
            ConfigurationError: not a model card, or of a newer format.
        """
        if not isinstance(content, Mapping):
            raise ConfigurationError(f"not a model card, but {type(content).__name__}")
        if content.get("format") != _FORMAT:
            raise ConfigurationError(
                f"a model card of format {content.get('format')}, and this geoaug reads {_FORMAT}: it was written by "
                "another version"
            )
        try:
            return ModelCard(
                **{name: content[name] for name in (*_PLAIN, "recipe", "training", "metrics", "versions")},
                architecture=Architecture.from_dict(content["architecture"]),
                sensor=sensor_from_dict(content["sensor"]),
                mean=tuple(content["mean"]),
                std=tuple(content["std"]),
                classes=tuple(ClassName(one["name"], _colour(one["colour"])) for one in content["classes"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"not a model card: {type(error).__name__}: {error}") from error

    def with_versions(self) -> ModelCard:
        """With the versions of the libraries that are here now, and of the package that the task comes from."""
        found = {"python": platform.python_version()}
        for name in _LIBRARIES:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        if (package := package_of_task(self.task)) is not None:
            found[package[0]] = package[1]
        return replace(self, versions=found)


_PLAIN = ("task", "multilabel", "units", "gsd_m", "tile_size", "ignore_index")


def read_card(path: Path) -> ModelCard | None:
    """The card of a model file, without reading its weights; None where the file has none."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(CARD_KEY)
    except (safetensors.SafetensorError, OSError) as error:
        raise ConfigurationError(f"{path}: not a safetensors file, or a damaged one: {error}") from error
    if text is None:
        return None
    try:
        return ModelCard.from_dict(json.loads(text))
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{path}: its model card is not JSON: damaged") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; of a model file, only as it was saved.

    Raises:
        ConfigurationError: damaged, or changed since it was saved.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ConfigurationError(f"{path}: not a safetensors file, or a damaged one: {error}") from error
    if CARD_KEY in metadata and metadata.get(DIGEST_KEY) != digest_of(state, metadata[CARD_KEY]):
        raise ConfigurationError(
            f"{path}: its digest does not fit: weights or card were changed after it was saved, or it is damaged"
        )
    return state


def digest_of(state: Mapping[str, Tensor], text: str) -> str:
    """SHA-256 of everything that the file says, in an order of its own."""
    found = hashlib.sha256(text.encode())
    for name in sorted(state):
        value = state[name]
        found.update(f"\0{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def sensor_to_dict(sensor: Sensor) -> dict[str, Any]:
    """A sensor as plain values, bands and all, so that its definition need not be found again."""
    return asdict(sensor)


def sensor_from_dict(content: Mapping[str, Any]) -> Sensor:
    """From `sensor_to_dict`."""
    bands = tuple(Band(**{**band, "aliases": tuple(band.get("aliases", ()))}) for band in content["bands"])
    return Sensor(**{**content, "bands": bands})


def _colour(values: Any) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in values)
    return red, green, blue

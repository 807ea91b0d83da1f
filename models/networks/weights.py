"""Weights for a ResNet from where they are: torchvision, a local file, a Lightning checkpoint; checked before use.

What is done with them is decided in `resnet`; files of whole models with all that is known of them are in `model_file`.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import torch
import torchvision
from torch import Tensor
from torchvision.models import get_model_weights

from geoaug.errors import ConfigurationError
from geoaug.models.networks.architecture import BACKBONES
from geoaug.models.networks.bands import Bands, sensor_of
from geoaug.models.networks.card import read_card, read_tensors, sensor_from_dict
from geoaug.sensors import Sensor

__all__ = ["Weights", "is_weights_file", "load_weights"]

_LOG = logging.getLogger(__name__)

# torch.hub's convention: the name of a file ends with the beginning of its SHA-256.
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})$")
_SHORTEST_HASH = 8


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A state dict in torchvision's keys, float32, and what is known of it.

    Attributes:
        state: every key of the network; those of the last layer may be missing.
        bands: that the first convolution takes; None where it is not given.
        classes: outputs of the last layer; None where it is missing.
        normed: whether there are running statistics; weights of a network with group norm have none.
        own: whether geoaug trained them, as their file says: on bands of mean 0 and std 1 of their own data.
        class_names: of the outputs, where their file says.
    """

    state: dict[str, Tensor]
    bands: Sensor | None
    classes: int | None
    normed: bool
    own: bool = False
    class_names: tuple[str, ...] | None = None


def load_weights(
    source: Enum | str | Path, backbone: str, *, bands: Bands | None = None, sha256: str | None = None
) -> Weights:
    """Read weights and check that they are a backbone's.

    Args:
        source: a torchvision enum or its name, or a local file: .pth or .pt (a state dict), .ckpt (Lightning),
            .safetensors (a state dict, or a model file of geoaug).
        backbone: "resnet18" and so on.
        bands: of the weights; what a model file or checkpoint says by default.
        sha256: of the file, or its beginning.

    Raises:
        ConfigurationError: no such weights, a wrong hash, another architecture, another count of bands, or numbers
            that are not finite.
    """
    known: Sensor | None = None
    names: tuple[str, ...] | None = None
    if isinstance(source, Enum):
        state, where = _of_torchvision(source, backbone, sha256)
    elif isinstance(source, str) and not is_weights_file(source):
        state, where = _of_torchvision(_named(source, backbone), backbone, sha256)
    else:
        path = Path(source)
        if not path.is_file():
            raise ConfigurationError(f"{path}: no such file of weights")
        check_hash(path, sha256)
        state, known, names = _of_file(path)
        where = str(path)
    state = _float32(_checked(state, backbone, where), where)
    count = state["conv1.weight"].shape[1]
    sensor = sensor_of(bands) if bands is not None else known
    if sensor is not None and len(sensor) != count:
        raise ConfigurationError(
            f"{where}: the weights take {count} bands, and {len(sensor)} are named ({' '.join(sensor.band_names)})"
        )
    classes = len(state["fc.weight"]) if "fc.weight" in state else None
    return Weights(state, sensor, classes, "bn1.running_mean" in state, known is not None, names)


def check_hash(path: Path, sha256: str | None = None) -> None:
    """Hold a file to its SHA-256, or to the beginning that its name ends with as torch.hub's names do.

    Raises:
        ConfigurationError: it is another one.
    """
    in_name = _HASH_IN_NAME.search(path.stem)
    wanted = sha256 or (in_name[1] if in_name else None)
    if wanted is None:
        return
    if not re.fullmatch(rf"[0-9a-fA-F]{{{_SHORTEST_HASH},64}}", wanted):
        raise ConfigurationError(f"sha256={wanted!r} is 64 hexadecimal digits, or the first {_SHORTEST_HASH} or more")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(wanted.lower()):
        raise ConfigurationError(
            f"{path}: its SHA-256 is {found[:16]}..., not {wanted[:16]}: damaged or another file; get it again"
        )


def is_weights_file(source: str) -> bool:
    """Whether a word names a file of weights rather than weights of torchvision's."""
    return Path(source).suffix.lower() in (".pth", ".pt", ".ckpt", ".safetensors", ".bin") or Path(source).is_file()


def _named(name: str, backbone: str) -> Enum:
    offered = get_model_weights(backbone)
    short = name.rpartition(".")[2]
    owner = name.rpartition(".")[0]
    if owner and owner != offered.__name__:
        raise ConfigurationError(f"weights '{name}' are not {backbone}'s: it has {_names(offered)}")
    if short not in offered.__members__:
        raise ConfigurationError(
            f"weights '{name}' are neither a file nor among those that torchvision has for {backbone}: "
            f"{_names(offered)}"
        )
    return offered[short]  # type: ignore[no-any-return]


def _names(offered: Any) -> str:
    return ", ".join(offered.__members__)


def _of_torchvision(weights: Any, backbone: str, sha256: str | None) -> tuple[Mapping[str, Any], str]:
    offered = get_model_weights(backbone)
    if not isinstance(weights, offered):
        raise ConfigurationError(f"weights '{weights}' are not {backbone}'s: it has {_names(offered)}")
    # Only what is downloaded is checked by torch; what was cached may have been damaged since.
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    if cached.is_file():
        check_hash(cached, sha256)
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError) as error:
        raise ConfigurationError(
            f"weights '{weights}' cannot be downloaded ({error}); put the file at {cached}, or give weights= its path"
        ) from error
    except RuntimeError as error:
        raise ConfigurationError(f"weights '{weights}': {error}; the download was damaged, try again") from error
    if sha256 is not None:
        check_hash(cached, sha256)
    return state, str(weights)


def _of_file(path: Path) -> tuple[Mapping[str, Any], Sensor | None, tuple[str, ...] | None]:
    """The state dict, and the bands and names of classes where geoaug wrote the file."""
    if path.suffix.lower() == ".safetensors":
        known = read_card(path)
        if known is None:
            return read_tensors(path), None, None
        return read_tensors(path), known.sensor, tuple(one.name for one in known.classes) or None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0] if str(error) else type(error).__name__
        raise ConfigurationError(
            f"{path}: cannot be read as weights ({reason}); only tensors and plain values are read, no code"
        ) from error
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"{path}: holds a {type(content).__name__}, not a state dict")
    state = content.get("state_dict", content)
    written = content.get("geoaug")
    if not isinstance(written, Mapping) or not isinstance(written.get("sensor"), Mapping):
        return state, None, None
    return state, sensor_from_dict(written["sensor"]), tuple(map(str, written.get("classes") or ())) or None


def _checked(state: Mapping[str, Any], backbone: str, where: str) -> dict[str, Tensor]:
    """The state dict in the backbone's own keys; an error where it is another network's."""
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    found = _without_prefix(tensors)
    wanted = _shapes(backbone)
    if found is None:
        raise ConfigurationError(
            f"{where}: not a ResNet: there is no 'conv1.weight' with a 'bn1.weight' among its {len(tensors)} tensors"
        )
    problem = _difference(found, wanted)
    if problem is not None:
        other = next((name for name in BACKBONES if _difference(found, _shapes(name)) is None), None)
        hint = f"it is a {other}" if other else problem
        raise ConfigurationError(f"{where}: not the weights of a {backbone}: {hint}")
    kept = {name: value for name, value in found.items() if name in wanted}
    if "bn1.running_mean" in kept:
        for name, shape in wanted.items():
            if name.endswith("num_batches_tracked"):
                kept.setdefault(name, torch.zeros(shape, dtype=torch.long))
    return kept


def _without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The part of a state dict that is a ResNet, wherever it hangs: "model.", "backbone.", "module."...

    Of several, the average that was kept for evaluation comes first, then the one nearest to the top.
    """
    roots = [name.removesuffix("conv1.weight") for name in tensors if name.endswith("conv1.weight")]
    roots = [
        root
        for root in roots
        if f"{root}bn1.weight" in tensors and f"{root}layer1.0.conv1.weight" in tensors and root[-1:] in ("", ".")
    ]
    if not roots:
        return None
    root = min(roots, key=lambda name: ("averaged" not in name, name.count("."), name))
    return {name.removeprefix(root): value for name, value in tensors.items() if name.startswith(root)}


def _difference(state: Mapping[str, Tensor], wanted: Mapping[str, torch.Size]) -> str | None:
    normed = any(name.endswith(".running_mean") for name in state)
    for name, shape in wanted.items():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        if not normed and name.endswith((".running_mean", ".running_var")):
            continue
        if name not in state:
            return f"'{name}' is missing"
        got = tuple(state[name].shape)
        if name == "conv1.weight":  # any number of bands
            got, shape = (*got[:1], *got[2:]), torch.Size((*shape[:1], *shape[2:]))
        if got != tuple(shape):
            return f"'{name}' is {tuple(state[name].shape)}, not {tuple(wanted[name])}"
    layers = [name for name in state if name.startswith("layer") and name not in wanted]
    return f"'{layers[0]}' is not a part of it" if layers else None


@cache
def _shapes(backbone: str) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = torchvision.models.get_model(backbone, weights=None)
    return {name: value.shape for name, value in model.state_dict().items()}


def _float32(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Half precision widened, which loses nothing; what overflowed when it was narrowed is refused."""
    half = [name for name, value in state.items() if value.dtype in (torch.float16, torch.bfloat16)]
    if half:
        _LOG.info("%s: %d tensors of half precision, taken as float32", where, len(half))
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            why = ": it overflowed half precision when it was saved" if name in half else ""
            raise ConfigurationError(f"{where}: '{name}' holds numbers that are not finite{why}; get another file")
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}

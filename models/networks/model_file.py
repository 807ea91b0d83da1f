"""One file that is a whole model: weights, and a card that says everything else that using it takes.

The file is safetensors, so that it holds numbers and text only and runs no code. A digest over the tensors and the
card stands beside the card: a changed weight, a renamed class or a swapped band is noticed before anything is
predicted. It guards against damage and mistakes; who can write the file can also write a new digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from geoaug.augment.compose import Compose
from geoaug.errors import ConfigurationError
from geoaug.io.geotiff import replace_file
from geoaug.models.networks.architecture import Network
from geoaug.models.networks.card import CARD_KEY, ModelCard, read_card

__all__ = ["LoadedModel", "load_model", "save_model"]

_DIGEST_KEY = "geoaug.sha256"
_WEIGHTS_ALONE = (".ckpt", ".pth", ".pt", ".bin")


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to predict.

    Attributes:
        network: in evaluation mode.
        card: everything else that is known of it.
    """

    network: Network
    card: ModelCard

    def compose(self, size: int | None = None) -> Compose:
        """What stands before the network: digital numbers scaled and normalised as in training."""
        card = self.card
        return Compose(
            [],
            card.sensor,
            size,
            normalize=(card.mean, card.std),
            out_units=card.units,
            ignore_index=card.ignore_index,
        ).eval()


def save_model(path: str | Path, network: Network, card: ModelCard) -> Path:
    """Write a model file, whole or not at all.

    Args:
        path: ending in .safetensors; an older file of this name is replaced when the new one is complete.
        network: of the card's architecture.
        card: what is known of it; the versions of the libraries are filled in.

    Raises:
        ConfigurationError: another ending, a network that is not the card's, or weights that are not finite.
        GeoaugError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ConfigurationError(f"{path}: a model file is called something.safetensors")
    if network.architecture != card.architecture:
        raise ConfigurationError(f"the card describes {card.architecture}, and the network is {network.architecture}")
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ConfigurationError(f"'{name}' is not finite: this network is broken and was not saved")
    text = json.dumps(card.with_versions().to_dict())
    content = safetensors.torch.save(state, {CARD_KEY: text, _DIGEST_KEY: _digest(state, text)})
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)
    return path


def load_model(path: str | Path, device: str | torch.device = "cpu") -> LoadedModel:
    """Read a model file; nothing else is needed.

    Raises:
        ConfigurationError: no such file, not a model file, damaged or changed since it was saved.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigurationError(f"{path}: no such model file")
    if path.suffix.lower() in _WEIGHTS_ALONE:
        raise ConfigurationError(
            f"{path}: weights or a checkpoint, which do not say what using them takes; a training leaves a model file "
            "beside its checkpoints (model.safetensors), and save_model writes one"
        )
    card = read_card(path)
    if card is None:
        raise ConfigurationError(f"{path}: weights without a model card; a model file is written by save_model")
    state = read_tensors(path)
    with torch.device("meta"):
        network = card.architecture.build()
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ConfigurationError(f"{path}: the weights are not those of its architecture: {error}") from error
    for module in network.modules():
        if isinstance(module, Network):  # an encoder is one, too
            module.sensor = card.sensor
    return LoadedModel(network.to(device).eval(), card)


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
    if CARD_KEY in metadata and metadata.get(_DIGEST_KEY) != _digest(state, metadata[CARD_KEY]):
        raise ConfigurationError(
            f"{path}: its digest does not fit: weights or card were changed after it was saved, or it is damaged"
        )
    return state


def _digest(state: Mapping[str, Tensor], text: str) -> str:
    """SHA-256 of everything that the file says, in an order of its own."""
    found = hashlib.sha256(text.encode())
    for name in sorted(state):
        value = state[name]
        found.update(f"\0{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()

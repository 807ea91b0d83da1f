"""One file that is a whole model: weights, and a card that says everything else that using it takes.

The file is safetensors, so that it holds numbers and text only and runs no code. A digest over the tensors and the
card stands beside the card: a changed weight, a renamed class or a swapped band is noticed before anything is
predicted. It guards against damage and mistakes; who can write the file can also write a new digest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from geoaug.augment.compose import Compose
from geoaug.errors import ConfigurationError
from geoaug.io.geotiff import replace_file
from geoaug.models.networks.architecture import Network
from geoaug.models.networks.build import build_network
from geoaug.models.networks.card import CARD_KEY, DIGEST_KEY, ModelCard, digest_of, read_card, read_tensors

__all__ = ["LoadedModel", "load_model", "save_model"]

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
    content = safetensors.torch.save(state, {CARD_KEY: text, DIGEST_KEY: digest_of(state, text)})
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
        network = build_network(card.architecture)
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ConfigurationError(f"{path}: the weights are not those of its architecture: {error}") from error
    for module in network.modules():
        if isinstance(module, Network):  # an encoder is one, too
            module.sensor = card.sensor
    return LoadedModel(network.to(device).eval(), card)

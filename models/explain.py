"""Why a network answered as it did: where in a chip it looked, and which chips it takes to be alike.

Grad-CAM is captum's (the extra `explain`); the plane of features is a PCA, or scikit-learn's t-SNE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.datamodule import as_catalog
from geoaug.data.loading.loader import TileLoader
from geoaug.data.sampling.grid_sampler import GridTileSampler
from geoaug.errors import ConfigurationError
from geoaug.models.networks.card import ModelCard
from geoaug.models.networks.model_file import LoadedModel, load_model
from geoaug.models.networks.resnet import ResNet
from geoaug.models.networks.segmentation import SegmentationNetwork
from geoaug.models.predict.chips import chip_compose, chips_for
from geoaug.models.tasks.registry import find_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Explained", "draw_embedding", "draw_grad_cam", "embed", "explain", "grad_cam"]

Projection = Literal["pca", "tsne"]
_BATCH = 16
_COLUMNS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """What was found of chips.

    Attributes:
        names: of the chips.
        labels: class by the folder or column, where there is one.
        images: (N, 3, H, W) as a picture, 0..1.
        answers: (N,) ids of the answers; -1 for numbers.
        attention: (N, H, W), 0..1: where in the chip the answer comes from; empty where not asked for.
        features: (N, F), what the last layer is given.
    """

    names: list[str]
    labels: list[str | None]
    images: Tensor
    answers: Tensor
    attention: Tensor
    features: Tensor


def explain(
    model: LoadedModel | str | Path,
    chips: Catalog | str | Path | Sequence[str | Path],
    *,
    sensor: str | None = None,
    most: int | None = None,
    attention: int = 0,
    ignore_gsd: bool = False,
    device: str | torch.device = "cpu",
) -> Explained:
    """Look at chips through a model.

    Args:
        model: a model file, or what `load_model` gave.
        chips: a catalog, a folder, or files.
        sensor: of the chips, where the files do not tell.
        most: chips to look at; by default all.
        attention: of how many of them Grad-CAM is taken.
        ignore_gsd: whether to look at another ground sampling distance than that of the training.
        device: to work on.

    Raises:
        ConfigurationError: a band that the chips lack, another ground sampling distance, or a model of two dates.
    """
    loaded = model if isinstance(model, LoadedModel) else load_model(model, device)
    card, network = loaded.card, loaded.network.to(device).eval()
    catalog = as_catalog(chips, **({} if sensor is None else {"sensor": sensor}))
    if most is not None and len(catalog) > most:
        order = torch.randperm(len(catalog), generator=torch.Generator().manual_seed(0))[:most]
        catalog = catalog.select(order.sort().values.numpy())
    labels = dict(zip(catalog.ids, catalog.table.column("label").to_pylist(), strict=True))
    names: list[str] = []
    parts: dict[str, list[Tensor]] = {"images": [], "answers": [], "attention": [], "features": []}
    with chips_for(card, catalog) as dataset:
        compose = chip_compose(card, dataset, ignore_gsd=ignore_gsd)
        for batch in TileLoader(dataset, GridTileSampler(dataset), _BATCH):
            image = compose(batch)["image"].to(device)
            wanted = max(0, min(attention - len(names), len(image)))
            names += batch["scene"]
            answers, features = _answers(network, card, image)
            parts["answers"].append(answers)
            parts["features"].append(features)
            if wanted:
                parts["images"].append(_as_picture(image[:wanted].cpu(), card))
                parts["attention"].append(grad_cam(network, image[:wanted], answers[:wanted]).cpu())
    empty = torch.zeros(0)
    found = {name: torch.cat(values) if values else empty for name, values in parts.items()}
    return Explained(names, [labels[name] for name in names], **found)


def grad_cam(network: nn.Module, image: Float[Tensor, "b c h w"], classes: Int[Tensor, b]) -> Float[Tensor, "b h w"]:
    """Where in images the evidence for a class lies (Selvaraju et al., 2017, Grad-CAM), 0..1 in each.

    Args:
        network: a ResNet, or one with a decoder: there, evidence for the pixels of that class together.
        image: ready for the network.
        classes: for each image; of numbers, any negative id.

    Raises:
        ConfigurationError: captum is not installed, or the network compares two dates.
    """
    try:
        from captum.attr import LayerAttribution, LayerGradCam
    except ImportError as error:
        raise ConfigurationError(
            "Grad-CAM comes from captum, which is not installed: pip install 'geoaug[explain]'"
        ) from error
    layer = _encoder(network).layer4

    def forward(x: Tensor) -> Tensor:
        answer: Tensor = network(x)
        return answer.mean((2, 3)) if answer.dim() == 4 else answer

    target = classes.clamp_min(0).to(image.device)
    with torch.enable_grad():
        # Activations need a gradient even where no weight does.
        seen = LayerGradCam(forward, layer).attribute(
            image.detach().requires_grad_(True), target=target, relu_attributions=True
        )
    whole = LayerAttribution.interpolate(seen, image.shape[-2:], interpolate_mode="bilinear")[:, 0].detach()
    found: Tensor = whole / whole.amax((1, 2), keepdim=True).clamp_min(1e-12)
    return found


def embed(features: Float[Tensor, "n f"], how: Projection = "pca") -> Float[Tensor, "n 2"]:
    """Features in a plane: their two principal components, or t-SNE (van der Maaten and Hinton, 2008) of them.

    Raises:
        ConfigurationError: fewer than three chips.
    """
    if len(features) < 3:
        raise ConfigurationError(f"{len(features)} chips make no picture of what is alike: give three or more")
    centred = features.double() - features.double().mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    # A direction and its opposite are as good: the larger end is positive, so that pictures repeat.
    signs = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
    if how == "pca":
        plane: Tensor = centred @ (directions * signs)[:2].T
        return plane
    from sklearn.manifold import TSNE

    reduced = (centred @ (directions * signs)[:50].T).numpy()
    perplexity = min(30.0, (len(features) - 1) / 3)
    return torch.from_numpy(TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(reduced))


def draw_grad_cam(found: Explained, card: ModelCard) -> Figure:
    """Chips beside where the answer comes from."""
    from matplotlib.figure import Figure

    count = len(found.attention)
    rows = -(-count // _COLUMNS)
    figure = Figure(figsize=(3.6 * _COLUMNS, 2.1 * rows), layout="constrained")
    for number in range(count):
        pair = [
            figure.add_subplot(rows, 2 * _COLUMNS, 2 * number + 1),
            figure.add_subplot(rows, 2 * _COLUMNS, 2 * number + 2),
        ]
        picture = found.images[number].movedim(0, -1).numpy()
        for axes in pair:
            axes.imshow(picture)
            axes.axis("off")
        pair[1].imshow(found.attention[number].numpy(), cmap="inferno", alpha=0.55, vmin=0, vmax=1)
        true = found.labels[number]
        pair[0].set_title(true or found.names[number][:18], fontsize=8)
        pair[1].set_title(_name_of(card, int(found.answers[number])), fontsize=8)
    return figure


def draw_embedding(found: Explained, card: ModelCard, how: Projection = "pca") -> Figure:
    """Every chip as a point, alike ones near, coloured by its class, or by the answer where that is not known."""
    from matplotlib.figure import Figure

    plane = embed(found.features, how)
    known = any(label is not None for label in found.labels)
    groups = (
        [label or "unknown" for label in found.labels]
        if known
        else [_name_of(card, int(answer)) for answer in found.answers]
    )
    colours = {one.name: tuple(value / 255 for value in one.colour) for one in card.classes}
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot()
    for name in sorted(set(groups)):
        mine = [number for number, group in enumerate(groups) if group == name]
        axes.scatter(plane[mine, 0], plane[mine, 1], s=12, color=colours.get(name), label=f"{name} ({len(mine)})")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    words = "first two principal components" if how == "pca" else "t-SNE"
    axes.set(
        title=f"features of {len(groups)} chips, {words}, by {'class' if known else 'answer'}", xticks=[], yticks=[]
    )
    return figure


def _encoder(network: nn.Module) -> ResNet:
    encoder = network.encoder if isinstance(network, SegmentationNetwork) else network
    if not isinstance(encoder, ResNet):
        raise ConfigurationError("a model that compares two dates looks at neither alone: give one of chips or maps")
    return encoder


@torch.no_grad()
def _answers(network: nn.Module, card: ModelCard, image: Tensor) -> tuple[Tensor, Tensor]:
    features = _encoder(network).features(image).cpu()
    return find_task(card.task).picture_ids(card, network(image)).cpu(), features


def _as_picture(image: Tensor, card: ModelCard) -> Tensor:
    from geoaug.sensors import colour_band

    bands = [colour_band(card.sensor, colour) for colour in ("red", "green", "blue")]
    chosen = [band for band in bands if band is not None] if None not in bands else [0, 0, 0]
    shown = image[:, chosen]
    low = shown.flatten(1).quantile(0.02, 1)[:, None, None, None]
    high = shown.flatten(1).quantile(0.98, 1)[:, None, None, None]
    return ((shown - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)


def _name_of(card: ModelCard, answer: int) -> str:
    return card.classes[answer].name if 0 <= answer < len(card.classes) else ""

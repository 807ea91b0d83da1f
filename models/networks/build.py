"""From an architecture to its network: the one place that knows which class of network an architecture asks for."""

from __future__ import annotations

from geoaug.models.networks.architecture import Architecture, Network
from geoaug.models.networks.change import build_change
from geoaug.models.networks.resnet import build_resnet
from geoaug.models.networks.segmentation import build_segmentation

__all__ = ["build_network"]


def build_network(architecture: Architecture) -> Network:
    """The network that an architecture describes, with new weights."""
    if architecture.fusion != "none":
        return build_change(architecture)
    if architecture.decoder != "none":
        return build_segmentation(architecture)
    return build_resnet(architecture)

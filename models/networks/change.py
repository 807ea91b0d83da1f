"""Change between two dates: one ResNet sees both, and their features are compared (Daudt et al., 2018, FC-Siam-diff).

An image is (B, 2, C, H, W), earlier date first. For whole chips nothing else is needed; for pixels a U-Net decodes the
differences at every scale.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

from torch import Tensor, nn

from geoaug.errors import ConfigurationError
from geoaug.models.networks.architecture import Architecture, Fusion, Network
from geoaug.models.networks.bands import Bands
from geoaug.models.networks.resnet import (
    ResNet,
    ResNetOptions,
    WeightsSource,
    build_resnet,
    check_image,
    pretrained_resnet,
)
from geoaug.models.networks.segmentation import (
    PixelHead,
    as_encoder,
    encoder_of,
    finish_head,
    padded_to_depth,
    width_of,
)

__all__ = ["ChangeNetwork", "build_change", "siamese_resnet", "siamese_unet"]


class ChangeNetwork(Network):
    """One encoder for two dates, and an answer to what differs: for the chip, or for each pixel."""

    def __init__(self, architecture: Architecture, encoder: ResNet) -> None:
        super().__init__()
        self.architecture, self.sensor = architecture, encoder.sensor
        width = width_of(encoder)
        self.encoder = as_encoder(encoder, dilated=architecture.decoder == "deeplabv3+")
        self.dropout = nn.Dropout(architecture.dropout)
        if architecture.decoder == "none":
            self.fc: nn.Module = nn.Linear(width, architecture.outputs)
            self.pixels: nn.Module | None = None
        else:
            self.fc = nn.Identity()
            self.pixels = PixelHead(architecture.decoder, width, architecture.outputs, architecture.dropout)
            finish_head(self.pixels, architecture)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K), or (B, K, H, W) where there is a decoder, of images (B, 2, C, H, W)."""
        if x.dim() != 5 or x.shape[1] != 2:
            raise ConfigurationError(f"change is between two dates: give (B, 2, C, H, W), not {tuple(x.shape)}")
        check_image(x, self.architecture, self.sensor)
        # Both dates in one batch: batch norm sees them together, as one network that meets both should.
        both = x.transpose(0, 1).flatten(0, 1)
        if self.pixels is None:
            return self.fc(self.dropout(self._compared(self.encoder.features(both))))  # type: ignore[no-any-return]
        compared = [self._compared(found) for found in self.encoder.pyramid(padded_to_depth(both))]
        return self.pixels(compared)[..., : x.shape[-2], : x.shape[-1]]  # type: ignore[no-any-return]

    def _compared(self, features: Tensor) -> Tensor:
        earlier, later = features.chunk(2)
        apart = later - earlier
        return apart.abs() if self.architecture.fusion == "absolute" else apart


def build_change(architecture: Architecture) -> ChangeNetwork:
    """A change network with new weights."""
    return ChangeNetwork(architecture, build_resnet(encoder_of(architecture)))


def siamese_resnet(
    backbone: str = "resnet18",
    weights: WeightsSource = None,
    bands: Bands = 3,
    num_classes: int = 2,
    *,
    fusion: Fusion = "difference",
    **options: Unpack[ResNetOptions],
) -> ChangeNetwork:
    """A ResNet over two dates with one answer for the chip.

    Args:
        backbone: "resnet18" and so on.
        weights: of the ResNet; see `resnet18`.
        bands: of each date.
        num_classes: answers.
        fusion: "difference" of the features, later less earlier; or "absolute", which does not tell the dates apart.
        **options: see `ResNetOptions`.
    """
    return _pretrained("none", backbone, weights, bands, num_classes, fusion, options)


def siamese_unet(
    backbone: str = "resnet18",
    weights: WeightsSource = None,
    bands: Bands = 3,
    num_classes: int = 2,
    *,
    fusion: Fusion = "difference",
    **options: Unpack[ResNetOptions],
) -> ChangeNetwork:
    """A ResNet over two dates and a U-Net over what differs, with an answer for each pixel; see `siamese_resnet`."""
    return _pretrained("unet", backbone, weights, bands, num_classes, fusion, options)


def _pretrained(
    decoder: str,
    backbone: str,
    weights: WeightsSource,
    bands: Bands,
    num_classes: int,
    fusion: Fusion,
    options: ResNetOptions,
) -> ChangeNetwork:
    if fusion == "none":
        raise ConfigurationError("two dates are fused by 'difference' or 'absolute'")
    dropout = options.pop("dropout", 0.0)
    encoder = pretrained_resnet(backbone, weights, bands, 1, **options)
    architecture = replace(
        encoder.architecture,
        decoder="unet" if decoder == "unet" else "none",
        fusion=fusion,
        outputs=num_classes,
        dropout=dropout,
    )
    return ChangeNetwork(architecture, encoder)

"""Answers for every pixel: decoders of segmentation-models-pytorch on our ResNets.

The encoder is the very ResNet of `resnet`, so stems, weights, norms and dropout are the same. The library is an extra
(`pip install 'geoaug[segmentation]'`) and imported when a decoder is built.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any, Unpack

from torch import Tensor, nn

from geoaug.errors import ConfigurationError
from geoaug.models.networks.architecture import Architecture, Decoder, Network
from geoaug.models.networks.bands import Bands
from geoaug.models.networks.batchnorm import set_batchnorm_momentum, use_norm
from geoaug.models.networks.resnet import (
    ResNet,
    ResNetOptions,
    WeightsSource,
    build_resnet,
    check_image,
    pretrained_resnet,
)

__all__ = ["PixelHead", "SegmentationNetwork", "build_segmentation", "deeplabv3plus", "fpn", "unet"]

# The deepest features are this many times smaller than the image, which is padded to a multiple of it.
_DEEPEST = 32

_DECODERS = {"unet": "Unet", "fpn": "FPN", "deeplabv3+": "DeepLabV3Plus"}


class PixelHead(nn.Module):
    """A decoder of the library and the last layer: from features at every scale to an answer for each pixel.

    Dropout is where `dropout` says, of whole channels before the last layer, and nowhere else.
    """

    def __init__(self, decoder: Decoder, widest: int, outputs: int, dropout: float) -> None:
        super().__init__()
        # The decoder knows the widths of its features alone: two encoders stand for all.
        made = getattr(_library(), _DECODERS[decoder])(
            encoder_name="resnet18" if widest == 512 else "resnet50", encoder_weights=None, classes=outputs
        )
        self.decoder, self.head = made.decoder, made.segmentation_head
        for module in self.decoder.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = 0.0
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.head(self.dropout(self.decoder(features)))  # type: ignore[no-any-return]


class SegmentationNetwork(Network):
    """A ResNet, a decoder, a class or number for each pixel."""

    def __init__(self, architecture: Architecture, encoder: ResNet) -> None:
        super().__init__()
        self.architecture, self.sensor = architecture, encoder.sensor
        self.pixels = PixelHead(architecture.decoder, width_of(encoder), architecture.outputs, architecture.dropout)
        self.encoder = as_encoder(encoder, dilated=architecture.decoder == "deeplabv3+")
        finish_head(self.pixels, architecture)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, H, W) of images (B, C, H, W) of any size."""
        check_image(x, self.architecture, self.sensor)
        padded = padded_to_depth(x)
        return self.pixels(self.encoder.pyramid(padded))[..., : x.shape[-2], : x.shape[-1]]  # type: ignore[no-any-return]


def width_of(encoder: ResNet) -> int:
    """Channels of the deepest features."""
    return int(encoder.fc.in_features)  # type: ignore[arg-type]


def as_encoder(network: ResNet, *, dilated: bool = False) -> ResNet:
    """A ResNet without its classifier; dilated, its last stage keeps the size of the one before (as DeepLab has it)."""
    network.fc = nn.Identity()
    if dilated:
        for module in network.layer4.modules():
            if isinstance(module, nn.Conv2d):
                reach = module.kernel_size[0] // 2
                module.stride, module.dilation, module.padding = (1, 1), (2, 2), (2 * reach, 2 * reach)
    return network


def finish_head(head: nn.Module, architecture: Architecture) -> None:
    """The norms of what is new: as everywhere, but never frozen, because it has learned nothing yet."""
    set_batchnorm_momentum(head, architecture.bn_momentum)
    use_norm(head, "batch" if architecture.norm == "frozen" else architecture.norm)


def padded_to_depth(x: Tensor) -> Tensor:
    """The image with its last rows and columns repeated, up to a size that every stage halves evenly."""
    height, width = x.shape[-2:]
    down, along = -height % _DEEPEST, -width % _DEEPEST
    return nn.functional.pad(x, (0, along, 0, down), mode="replicate") if down or along else x


def build_segmentation(architecture: Architecture) -> SegmentationNetwork:
    """A segmentation network with new weights."""
    return SegmentationNetwork(architecture, build_resnet(encoder_of(architecture)))


def encoder_of(architecture: Architecture) -> Architecture:
    """The ResNet under a decoder or in front of a comparison."""
    return replace(architecture, decoder="none", fusion="none", outputs=1, dropout=0.0)


def _pretrained(
    decoder: Decoder,
    backbone: str,
    weights: WeightsSource,
    bands: Bands,
    num_classes: int,
    options: ResNetOptions,
) -> SegmentationNetwork:
    dropout = options.pop("dropout", 0.0)
    encoder = pretrained_resnet(backbone, weights, bands, 1, **options)
    architecture = replace(encoder.architecture, decoder=decoder, outputs=num_classes, dropout=dropout)
    return SegmentationNetwork(architecture, encoder)


def unet(
    backbone: str = "resnet18",
    weights: WeightsSource = None,
    bands: Bands = 3,
    num_classes: int = 1,
    **options: Unpack[ResNetOptions],
) -> SegmentationNetwork:
    """U-Net (Ronneberger et al., 2015) on a ResNet.

    Args:
        backbone: "resnet18" and so on.
        weights: of the ResNet; see `resnet18`.
        bands: see `resnet18`.
        num_classes: answers for each pixel.
        **options: see `ResNetOptions`; `dropout` is of whole channels before the last layer, `norm="frozen"` freezes
            the ResNet and leaves the new decoder its batch norm.

    Raises:
        ConfigurationError: see `resnet18`; or the extra is not installed.
    """
    return _pretrained("unet", backbone, weights, bands, num_classes, options)


def fpn(
    backbone: str = "resnet18",
    weights: WeightsSource = None,
    bands: Bands = 3,
    num_classes: int = 1,
    **options: Unpack[ResNetOptions],
) -> SegmentationNetwork:
    """Feature pyramid (Kirillov et al., 2019, Panoptic Feature Pyramid Networks) on a ResNet; see `unet`."""
    return _pretrained("fpn", backbone, weights, bands, num_classes, options)


def deeplabv3plus(
    backbone: str = "resnet18",
    weights: WeightsSource = None,
    bands: Bands = 3,
    num_classes: int = 1,
    **options: Unpack[ResNetOptions],
) -> SegmentationNetwork:
    """DeepLabV3+ (Chen et al., 2018, ECCV), output stride 16, on a ResNet; see `unet`."""
    return _pretrained("deeplabv3+", backbone, weights, bands, num_classes, options)


def _library() -> ModuleType:
    try:
        import segmentation_models_pytorch
    except ImportError as error:
        raise ConfigurationError(
            "decoders come from segmentation-models-pytorch, which is not installed: pip install 'geoaug[segmentation]'"
        ) from error
    return segmentation_models_pytorch  # type: ignore[no-any-return]


def library_loss(name: str, **options: Any) -> nn.Module:
    """A loss of the library by its name."""
    return getattr(_library().losses, name)(**options)  # type: ignore[no-any-return]

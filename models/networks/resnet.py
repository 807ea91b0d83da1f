"""torchvision's ResNets for any bands, with batch norm and dropout under control.

The keys of their state dicts are torchvision's. Where weights come from is in `weights`, how the first convolution is
adapted in `stem`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, Unpack

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from geoaug.errors import ConfigurationError
from geoaug.models.networks.architecture import Architecture, Network
from geoaug.models.networks.bands import Bands, sensor_of
from geoaug.models.networks.batchnorm import Norm, set_batchnorm_momentum, use_norm
from geoaug.models.networks.statistics import BandStatistics
from geoaug.models.networks.stem import Stem, adapt_stem
from geoaug.models.networks.weights import Weights, load_weights
from geoaug.sensors import Sensor

__all__ = [
    "ResNet",
    "ResNetOptions",
    "WeightsSource",
    "build_resnet",
    "pretrained_resnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "wide_resnet50_2",
]

# An enum of torchvision's, its name, or a file.
WeightsSource: TypeAlias = Enum | str | Path | None


class ResNetOptions(TypedDict, total=False):
    """What all the functions below take besides weights, bands and number of classes.

    Attributes:
        stem: how the first convolution comes to the bands; see `adapt_stem`.
        statistics: of the input, after normalisation; see `adapt_stem`.
        weights_bands: the bands of the weights, where it is not red, green, blue and the file does not say.
        weights_statistics: of the input that the weights are used to; by default, for a model that geoaug trained,
            mean 0 and std 1.
        classes: names of the outputs; the last layer of weights whose file names others starts anew.
        sha256: of the file of weights, or its beginning (8 digits or more): anything else is refused.
        norm: "batch"; "group", which does not depend on the batch; "frozen", statistics and weights alike; or "sync".
        bn_momentum: of batch norm in torch's convention (its 0.1 is 0.9 elsewhere); None averages all batches.
        dropout: probability of dropping a feature before the classifier.
        block_dropout: probability of dropping a whole channel of what a block adds, in every stage.
    """

    stem: Stem
    statistics: BandStatistics | None
    weights_bands: Bands | None
    weights_statistics: BandStatistics | None
    classes: Sequence[str] | None
    sha256: str | None
    norm: Norm
    bn_momentum: float | None
    dropout: float
    block_dropout: float


class _DroppedBasicBlock(BasicBlock):  # type: ignore[misc]
    """torchvision's block, dropping channels of what it adds."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.block_dropout = nn.Dropout2d(0.0)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.block_dropout(self.bn2(self.conv2(out)))
        return self.relu(out + identity)  # type: ignore[no-any-return]


class _DroppedBottleneck(Bottleneck):  # type: ignore[misc]
    """torchvision's block, dropping channels of what it adds."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.block_dropout = nn.Dropout2d(0.0)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.block_dropout(self.bn3(self.conv3(out)))
        return self.relu(out + identity)  # type: ignore[no-any-return]


_Block = type[BasicBlock] | type[Bottleneck]
_LAYERS: dict[str, tuple[_Block, list[int], dict[str, int]]] = {
    "resnet18": (_DroppedBasicBlock, [2, 2, 2, 2], {}),
    "resnet34": (_DroppedBasicBlock, [3, 4, 6, 3], {}),
    "resnet50": (_DroppedBottleneck, [3, 4, 6, 3], {}),
    "resnet101": (_DroppedBottleneck, [3, 4, 23, 3], {}),
    "resnet152": (_DroppedBottleneck, [3, 8, 36, 3], {}),
    "resnext50_32x4d": (_DroppedBottleneck, [3, 4, 6, 3], {"groups": 32, "width_per_group": 4}),
    "wide_resnet50_2": (_DroppedBottleneck, [3, 4, 6, 3], {"width_per_group": 128}),
}


def resnet_layers(backbone: str) -> tuple[_Block, list[int], dict[str, int]]:
    """The block, how many of them in each stage, and further arguments of torchvision's `ResNet`."""
    return _LAYERS[backbone]


class ResNet(torchvision.models.ResNet, Network):  # type: ignore[misc]
    """torchvision's ResNet with its bands, its dropout, and a way to its features."""

    conv1: nn.Module
    bn1: nn.Module
    relu: nn.Module
    maxpool: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module
    avgpool: nn.Module
    fc: nn.Module

    def __init__(self, architecture: Architecture) -> None:
        block, layers, options = resnet_layers(architecture.backbone)
        super().__init__(block, layers, num_classes=architecture.outputs, **options)
        self.architecture, self.sensor = architecture, sensor_of(architecture.bands)
        if architecture.bands != 3:
            self.conv1 = _first_convolution(architecture.bands)
        self.dropout = nn.Dropout(architecture.dropout)
        set_block_dropout(self, architecture.block_dropout)

    def features(self, x: Tensor) -> Tensor:
        """What the classifier is given, before dropout: (B, 512), or (B, 2048) from resnet50 on."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return torch.flatten(self.avgpool(x), 1)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """The image and what each stage makes of it, from full to a 32nd of the size, for decoders."""
        found = [x, self.relu(self.bn1(self.conv1(x)))]
        found.append(self.layer1(self.maxpool(found[-1])))
        for stage in (self.layer2, self.layer3, self.layer4):
            found.append(stage(found[-1]))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        check_image(x, self.architecture, self.sensor)
        return self.fc(self.dropout(self.features(x)))  # type: ignore[no-any-return]


def set_block_dropout(network: nn.Module, p: float) -> None:
    """Set the probability that every block of a ResNet drops a channel with."""
    for module in network.modules():
        if isinstance(module, _DroppedBasicBlock | _DroppedBottleneck):
            module.block_dropout.p = p


def check_image(x: Tensor, architecture: Architecture, sensor: Sensor) -> None:
    """Say it where an image has other bands than the network."""
    bands = x.shape[-3] if x.dim() >= 3 else 0
    if bands != architecture.bands:
        raise ConfigurationError(
            f"an image {tuple(x.shape)} for a network of {architecture.bands} bands ({' '.join(sensor.band_names)}); "
            "give it (B, C, H, W) with these bands, in this order"
        )


def build_resnet(architecture: Architecture) -> ResNet:
    """A ResNet with new weights."""
    return _finished(ResNet(architecture))


def pretrained_resnet(
    backbone: str,
    weights: WeightsSource = None,
    bands: Bands = 3,
    num_classes: int | None = None,
    **options: Unpack[ResNetOptions],
) -> ResNet:
    """A ResNet by its name; see `resnet18`."""
    strange = sorted(set(options) - set(ResNetOptions.__annotations__))
    if strange:
        raise TypeError(
            f"{backbone}: no such option: {', '.join(strange)}; there are {', '.join(ResNetOptions.__annotations__)}"
        )
    sensor = sensor_of(bands)
    loaded = (
        None
        if weights is None
        else load_weights(weights, backbone, bands=options.get("weights_bands"), sha256=options.get("sha256"))
    )
    if loaded is None and options.get("norm") == "frozen":
        raise ConfigurationError(
            "norm='frozen' without weights would freeze statistics that were never measured: give weights"
        )
    if num_classes is None:
        num_classes = 1000 if loaded is None or loaded.classes is None else loaded.classes
    # Weights that are loaded need not be drawn first.
    with torch.device("cpu" if loaded is None else "meta"):
        network = ResNet(_architecture_of(backbone, len(sensor), num_classes, options))
    network.sensor = sensor
    if loaded is not None:
        _take(network, loaded, options)
    return _finished(network)


def _take(network: ResNet, loaded: Weights, options: ResNetOptions) -> None:
    grouped = network.architecture.norm == "group"
    if not (loaded.normed or grouped):
        raise ConfigurationError("these weights were trained with group norm and have no statistics: take norm='group'")
    state = dict(loaded.state)
    used_to = options.get("weights_statistics")
    if used_to is None and loaded.own:
        used_to = BandStatistics.unit(state["conv1.weight"].shape[1])
    adapted = adapt_stem(
        state["conv1.weight"],
        network.sensor,
        stem=options.get("stem", "copy"),
        weights_bands=loaded.bands,
        statistics=options.get("statistics"),
        weights_statistics=used_to,
    )
    state["conv1.weight"] = adapted.weight
    if loaded.normed:
        deviation = state["bn1.running_var"].clamp_min(1e-12).sqrt()
        if grouped and bool((adapted.shift.abs() > 1e-3 * deviation).any()):
            raise ConfigurationError(
                "group norm has no running mean to take up the means of these bands: normalise them to a mean of 0, "
                "and say so in statistics"
            )
        state["bn1.running_mean"] = state["bn1.running_mean"] + adapted.shift
    named, wanted = loaded.class_names, options.get("classes")
    others = named is not None and wanted is not None and tuple(wanted) != named
    if others or "fc.weight" not in state or len(state["fc.weight"]) != network.architecture.outputs:
        # Other classes: the last layer starts anew.
        last = nn.Linear(network.fc.in_features, network.architecture.outputs)  # type: ignore[arg-type]
        state |= {f"fc.{name}": value for name, value in last.state_dict().items()}
    for name, value in network.state_dict().items():
        if name not in state:  # running statistics, which group norm does not have
            state[name] = torch.full(value.shape, float(name.endswith("var")), dtype=value.dtype)
    network.load_state_dict(state, assign=True)


def _architecture_of(backbone: str, bands: int, outputs: int, options: ResNetOptions) -> Architecture:
    return Architecture(
        backbone,
        bands,
        outputs,
        norm=options.get("norm", "batch"),
        bn_momentum=options.get("bn_momentum", 0.1),
        dropout=options.get("dropout", 0.0),
        block_dropout=options.get("block_dropout", 0.0),
    )


def _finished(network: ResNet) -> ResNet:
    set_batchnorm_momentum(network, network.architecture.bn_momentum)
    use_norm(network, network.architecture.norm)
    return network


def _first_convolution(bands: int) -> nn.Conv2d:
    convolution = nn.Conv2d(bands, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def resnet18(
    weights: WeightsSource = None, bands: Bands = 3, num_classes: int | None = None, **options: Unpack[ResNetOptions]
) -> ResNet:
    """ResNet-18 (He et al., 2016, CVPR) on any bands.

    Args:
        weights: a torchvision enum or its name ("IMAGENET1K_V1", "DEFAULT"), downloaded once and checked; a local .pth
            or .safetensors file; a Lightning checkpoint; or None for new ones.
        bands: a `Sensor` (`get_sensor("sentinel-2-l2a").select("B04,B03,B02")`), names, or a count.
        num_classes: of the classifier; by default that of the weights. Where they differ, the last layer is new.
        **options: see `ResNetOptions`.

    Raises:
        ConfigurationError: weights of another architecture, damaged, or of other bands than given.
    """
    return pretrained_resnet("resnet18", weights, bands, num_classes, **options)


def resnet34(
    weights: WeightsSource = None, bands: Bands = 3, num_classes: int | None = None, **options: Unpack[ResNetOptions]
) -> ResNet:
    """ResNet-34 on any bands; see `resnet18`."""
    return pretrained_resnet("resnet34", weights, bands, num_classes, **options)


def resnet50(
    weights: WeightsSource = None, bands: Bands = 3, num_classes: int | None = None, **options: Unpack[ResNetOptions]
) -> ResNet:
    """ResNet-50 on any bands; see `resnet18`."""
    return pretrained_resnet("resnet50", weights, bands, num_classes, **options)


def resnet101(
    weights: WeightsSource = None, bands: Bands = 3, num_classes: int | None = None, **options: Unpack[ResNetOptions]
) -> ResNet:
    """ResNet-101 on any bands; see `resnet18`."""
    return pretrained_resnet("resnet101", weights, bands, num_classes, **options)


def resnet152(
    weights: WeightsSource = None, bands: Bands = 3, num_classes: int | None = None, **options: Unpack[ResNetOptions]
) -> ResNet:
    """ResNet-152 on any bands; see `resnet18`."""
    return pretrained_resnet("resnet152", weights, bands, num_classes, **options)


def resnext50_32x4d(
    weights: WeightsSource = None, bands: Bands = 3, num_classes: int | None = None, **options: Unpack[ResNetOptions]
) -> ResNet:
    """ResNeXt-50 32x4d (Xie et al., 2017, CVPR) on any bands; see `resnet18`."""
    return pretrained_resnet("resnext50_32x4d", weights, bands, num_classes, **options)


def wide_resnet50_2(
    weights: WeightsSource = None, bands: Bands = 3, num_classes: int | None = None, **options: Unpack[ResNetOptions]
) -> ResNet:
    """Wide ResNet-50-2 (Zagoruyko and Komodakis, 2016, BMVC) on any bands; see `resnet18`."""
    return pretrained_resnet("wide_resnet50_2", weights, bands, num_classes, **options)

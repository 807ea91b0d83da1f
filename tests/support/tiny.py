"""A tiny network whose parts are called as torchvision's ResNets call them, and chips that it can learn in seconds."""

import torch
from torch import Tensor, nn


class TinyNet(nn.Module):
    """Convolution, batch norm, one stage, a head; with dropout, so that randomness has a say."""

    def __init__(self, bands: int = 3, outputs: int = 3, dropout: float = 0.2, norm: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(bands, 8, 3, padding=1)
        self.bn1: nn.Module = nn.BatchNorm2d(8) if norm else nn.GroupNorm(2, 8)
        self.layer4 = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8) if norm else nn.GroupNorm(2, 8))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(8, outputs)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(image)))
        return self.fc(self.dropout(torch.relu(self.layer4(x)).mean((2, 3))))


class TinyPixels(TinyNet):
    """An answer for each pixel."""

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.layer4(torch.relu(self.bn1(self.conv1(image)))))
        return self.fc(x.movedim(1, -1)).movedim(-1, 1)


def chips(count: int = 48, classes: int = 3, size: int = 12) -> list[dict[str, Tensor]]:
    """Chips whose class is the band that is brightest."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for index in range(count):
        label = index % classes
        image = torch.randn(3, size, size, generator=generator)
        image[label] += 1.0
        found.append({"image": image, "label": torch.tensor(label), "index": torch.tensor(index)})
    return found

"""Test-time augmentation: a model sees every view of a tile, and its answers are turned back and averaged.

Views are symmetries of the square, so both ways are exact, bit for bit: nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.augment.kernels.warp import from_bits, to_bits
from geoaug.augment.planning import matrices
from geoaug.augment.planning.matrices import Size
from geoaug.errors import ConfigurationError

Group = Literal["d4", "c4", "flips", "none"]
Activation = Literal["softmax", "sigmoid"]

# Members as `matrices.dihedral` numbers them: index % 4 quarter turns counter-clockwise, from 4 on after a flip.
_MEMBERS: dict[str, tuple[int, ...]] = {
    "d4": tuple(range(8)),
    "c4": (0, 1, 2, 3),
    "flips": (0, 4, 6, 2),
    "none": (0,),
}

# Tensors of a batch that lie on the pixel grid.
_GRIDS = ("image", "valid", "mask", "dem", "cloud")


class TestTime:
    """Views of an image under a group of symmetries, and the way back for what a model says of them.

    `TestTime("d4")(model, image)` is the model's mean answer over the eight views. The model's mode and the gradient
    mode stay as they are: call it under `model.eval()` and `torch.inference_mode()`.

    Args:
        group: "d4" (eight views), "c4" (four turns), "flips" (four: none, left-right, top-bottom, both), or "none".
    """

    __test__ = False  # not a class of tests, whatever its name

    def __init__(self, group: Group = "d4") -> None:
        if group not in get_args(Group):
            raise ConfigurationError(f"group={group!r} is one of {', '.join(get_args(Group))}")
        self.group: Group = group
        self.members = _MEMBERS[group]

    def __len__(self) -> int:
        return len(self.members)

    def views(self, images: Tensor | Mapping[str, Any]) -> list[Any]:
        """All views, the image as it is among them.

        Args:
            images: (..., H, W), or a batch dict: what lies on its pixel grid turns with it, and so do `transform`,
                `sun_azimuth` and boxes. A view of a tile that is not square has its sides swapped by quarter turns.
        """
        if isinstance(images, Tensor):
            return [turned(images, member) for member in self.members]
        return [_turned_batch(images, member) for member in self.members]

    def restore(self, outputs: Sequence[Any], sizes: Sequence[Size] | None = None) -> list[Any]:
        """What a model said of each view, turned back to the original.

        Args:
            outputs: one for each view: tensors (B, K) stay, (B, K, h, w) and (B, h, w) of floats turn back; lists of
                boxes (N, 4) turn back within `sizes`; tuples and dicts of these are taken apart.
            sizes: (height, width) of each view, needed for boxes.
        """
        if len(outputs) != len(self):
            raise ConfigurationError(f"{len(outputs)} outputs for the {len(self)} views of '{self.group}'")
        sizes = [Size(0, 0)] * len(self) if sizes is None else sizes
        return [
            _restored(output, member, size) for output, member, size in zip(outputs, self.members, sizes, strict=True)
        ]

    def __call__(
        self,
        model: Callable[[Any], Any],
        images: Tensor | Mapping[str, Any],
        *,
        activation: Activation | None = None,
    ) -> Any:
        """The model's mean answer.

        Args:
            model: takes (B, C, H, W), or the batch dict where `images` is one.
            images: see `views`.
            activation: applied to each answer before the mean: probabilities are averaged instead of logits.
        """
        if activation not in (None, *get_args(Activation)):
            raise ConfigurationError(f"activation={activation!r} is one of {', '.join(get_args(Activation))}, or None")
        views = self.views(images)
        grids = [view if isinstance(view, Tensor) else view["image"] for view in views]
        answers = self.restore([model(view) for view in views], [Size(*grid.shape[-2:]) for grid in grids])
        return merged(answers, activation)


def turned(image: Tensor, member: int) -> Tensor:
    """A view of (..., H, W): one member of the group, numbered as in `matrices.dihedral`."""
    bits = to_bits(image)
    flipped = bits.flip(-1) if member >= 4 else bits
    return from_bits(torch.rot90(flipped, member % 4, (-2, -1)).contiguous(), image.dtype)


def turned_back(image: Tensor, member: int) -> Tensor:
    """The original of a view."""
    level = torch.rot90(to_bits(image), -(member % 4), (-2, -1))
    return from_bits((level.flip(-1) if member >= 4 else level).contiguous(), image.dtype)


def merged(answers: Sequence[Any], activation: Activation | None = None) -> Any:
    """The mean of restored answers, part by part; boxes of all views one after the other, for each sample.

    Args:
        answers: of one shape.
        activation: applied before the mean.
    """
    first = answers[0]
    if isinstance(first, Tensor):
        total: Tensor | None = None
        for answer in answers:
            share = _activated(answer, activation)
            total = share if total is None else total + share
        assert total is not None
        return total / len(answers)
    if isinstance(first, Mapping):
        return {name: merged([answer[name] for answer in answers], activation) for name in first}
    if isinstance(first, tuple):
        return tuple(merged(parts, activation) for parts in zip(*answers, strict=True))
    return [torch.cat(boxes) for boxes in zip(*answers, strict=True)]


def _activated(answer: Tensor, activation: Activation | None) -> Tensor:
    if activation == "softmax":
        return answer.softmax(1)
    return answer.sigmoid() if activation == "sigmoid" else answer


def _restored(output: Any, member: int, size: Size) -> Any:
    if isinstance(output, Mapping):
        return {name: _restored(part, member, size) for name, part in output.items()}
    if isinstance(output, tuple):
        return tuple(_restored(part, member, size) for part in output)
    if isinstance(output, list):
        return _boxes_back(output, member, size)
    if not isinstance(output, Tensor) or not output.is_floating_point() or not 2 <= output.dim() <= 5:
        what = f"{output.dtype} {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ConfigurationError(
            f"views are averaged as numbers: logits (B, K), (B, K, h, w) or (B, h, w), not {what}; labels cannot be "
            "averaged, so give the model's logits"
        )
    return output if output.dim() == 2 else turned_back(output, member)


def _matrix(member: int, size: Size) -> Float[Tensor, "1 3 3"]:
    """From pixels of the original to those of the view."""
    target = Size(size.width, size.height) if member % 2 else size
    return matrices.about_centre(matrices.dihedral(torch.tensor([member])), size, target)


def _boxes_back(boxes: list[Tensor], member: int, size: Size) -> list[Tensor]:
    if size == Size(0, 0):
        raise ConfigurationError("boxes turn within the tile: give the sizes of the views")
    original = Size(size.width, size.height) if member % 2 else size
    back = matrices.inverse(_matrix(member, original)).expand(len(boxes), 3, 3)
    return matrices.transform_boxes(boxes, back.to(boxes[0].device) if boxes else back, original)


def _turned_batch(batch: Mapping[str, Any], member: int) -> dict[str, Any]:
    image = batch.get("image")
    if not isinstance(image, Tensor):
        raise ConfigurationError(f"a batch is a dict with a tensor under 'image'; this one has: {', '.join(batch)}")
    view: dict[str, Any] = {name: turned(batch[name], member) for name in _GRIDS if isinstance(batch.get(name), Tensor)}
    size = Size(*image.shape[-2:])
    matrix = _matrix(member, size).to(image.device)
    every = matrix.expand(len(image), 3, 3)
    if isinstance(batch.get("transform"), Tensor):
        view["transform"] = matrices.transform_geotransforms(batch["transform"], every)
    if isinstance(batch.get("sun_azimuth"), Tensor):
        view["sun_azimuth"] = matrices.transform_azimuths(batch["sun_azimuth"], every)
    if batch.get("bbox_xyxy") is not None:
        target = Size(*view["image"].shape[-2:])
        view["bbox_xyxy"] = matrices.transform_boxes(list(batch["bbox_xyxy"]), every, target)
    return {**batch, **view}

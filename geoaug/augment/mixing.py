"""Mixing the samples of a batch: two images in one, or a tile seen through a window that wraps around.

These couple samples, so they stand after `Compose`, not in it: `batch = mix(compose(batch))`. With whom a sample is
mixed depends on its batch, necessarily; how strongly and where depends on its key alone. Invalid pixels stay invalid
and never bleed, and labels that cannot be averaged become probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from kornia.augmentation import MixAugmentationBaseV2
from torch import Tensor

from geoaug.augment.kernels.warp import from_bits, to_bits
from geoaug.augment.operations.base import as_size
from geoaug.augment.planning.matrices import Size, transform_geotransforms, translation
from geoaug.augment.planning.plan import Params
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import Draws, random_keys

# Streams of parameters that no operation in a list reaches.
_FIRST_STREAM = 1 << 20
_QUANTILES = 4096


class _Mix(MixAugmentationBaseV2):
    """What the mixing operations share: parameters from keys, and the two ways of being called."""

    stream = _FIRST_STREAM

    def __init__(
        self, p: float, num_classes: int | None, ignore_index: int, same_on_batch: bool, keepdim: bool, data_keys: Any
    ) -> None:
        if not 0 <= p <= 1:
            raise ConfigurationError(f"{type(self).__name__}: p is a probability in 0..1, not {p}")
        super().__init__(p=1.0, p_batch=1.0, same_on_batch=same_on_batch, keepdim=keepdim, data_keys=data_keys)
        if num_classes is not None and num_classes < 1:
            raise ConfigurationError(f"{type(self).__name__}: num_classes={num_classes} is at least 1")
        self.chance, self.num_classes, self.ignore_index = p, num_classes, ignore_index

    def draw(self, draws: Draws, size: Size) -> Params:
        """Parameters of every sample: how much, and where."""
        raise NotImplementedError

    def parameters_for(self, key: Int[Tensor, " b"], size: Size) -> Params:
        """Parameters of a batch of tiles of that size, and `partner`: the row that each is mixed with."""
        draws = Draws(key, self.stream)
        # The cyclic order of keyed numbers: nobody is their own partner while there is another.
        order = draws.uniform().argsort()
        partner = torch.empty_like(order).scatter_(0, order, order.roll(-1))
        gate = draws.chance(self.chance)
        params = self.draw(draws, size)
        if self.same_on_batch:
            gate, params = gate[:1].expand_as(gate), {n: v[:1].expand_as(v) for n, v in params.items()}
        return {**params, "partner": partner, "gate": gate}

    def forward_parameters(self, batch_shape: tuple[int, ...]) -> Params:
        key = random_keys(batch_shape[0])
        params = self.parameters_for(key, Size(*batch_shape[-2:]))
        return {**params, "batch_prob": torch.ones(batch_shape[0])}

    def forward(  # type: ignore[override]
        self, *input: Any, params: Params | None = None, data_keys: Any = None
    ) -> Any:
        """Mix a batch dict, or tensors in kornia's way."""
        if input and isinstance(input[0], Mapping):
            return self.mixed(input[0])
        return super().forward(*input, params=params, data_keys=data_keys)

    def mixed(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch, mixed."""
        image = batch.get("image")
        if not isinstance(image, Tensor) or image.dim() not in (4, 5):
            raise ConfigurationError(
                f"{type(self).__name__} takes a batch with 'image' (B, C, H, W) or (B, T, C, H, W)"
            )
        if batch.get("bbox_xyxy") is not None:
            raise ConfigurationError(f"{type(self).__name__} cannot mix boxes; leave it out for detection")
        key = batch.get("key")
        key = random_keys(len(image), image.device) if key is None else torch.as_tensor(key).to(image.device)
        if key.shape != (len(image),):
            raise ConfigurationError(f"'key' is one integer for each of {len(image)} samples, not {tuple(key.shape)}")
        return {**batch, **self.change(batch, self.parameters_for(key, Size(*image.shape[-2:])))}

    def change(self, batch: Mapping[str, Any], params: Params) -> dict[str, Any]:
        """What is different in the batch afterwards."""
        raise NotImplementedError

    def soft_labels(self, batch: Mapping[str, Any], params: Params, share: Float[Tensor, " b"]) -> dict[str, Any]:
        """`label` as probabilities: one's own, and the partner's by its share."""
        label = batch.get("label")
        if label is None:
            return {}
        label = self._as_probabilities(torch.as_tensor(label))
        part = share.to(label)[:, None]
        return {"label": label * (1 - part) + label[params["partner"].to(label.device)] * part}

    def _as_probabilities(self, label: Tensor) -> Tensor:
        if label.dim() == 2:
            return label.float()
        if self.num_classes is None:
            raise ConfigurationError(f"{type(self).__name__}: labels become probabilities; say num_classes=")
        return torch.nn.functional.one_hot(label.long(), self.num_classes).float()

    def apply_transform_class(self, input: Tensor, params: Params, flags: dict[str, Any]) -> Tensor:
        share = self.share_of(params).to(input.device)
        if self.num_classes is not None:
            return self.soft_labels({"label": input}, params, share)["label"]  # type: ignore[no-any-return]
        # Without a number of classes, kornia's own form: label, partner's label, partner's share.
        partner = input[params["partner"].to(input.device)]
        return torch.stack((input.float(), partner.float(), share.float()), dim=1)

    def share_of(self, params: Params) -> Float[Tensor, " b"]:
        """The share that the partner has in each sample."""
        raise NotImplementedError


class RandomMixUp(_Mix):
    """Each image blended with another one of the batch, and their labels with them (Zhang et al., 2018, ICLR).

    `image = (1 - share) * image + share * partner`, the share Beta(alpha, alpha). `label` becomes probabilities (B, K).
    A `mask` of classes becomes probabilities (B, K, H, W), as `torch.nn.functional.cross_entropy` takes them, and all
    zeros (no loss) where either label is `ignore_index`. A pixel is valid where both are, and `fill` elsewhere.

    Args:
        alpha: of the Beta distribution; small ones leave most images nearly alone.
        num_classes: K; needed for integer labels.
        fill: value of invalid pixels.
        ignore_index: label of pixels without a label.
        p: probability that a sample is blended.
        same_on_batch: one share for the whole batch.
        keepdim: see kornia.
        data_keys: in kornia's way, where called with tensors: "input" and "class".
    """

    stream = _FIRST_STREAM

    def __init__(
        self,
        alpha: float = 0.2,
        num_classes: int | None = None,
        fill: float = 0.0,
        ignore_index: int = 255,
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        data_keys: Any = None,
    ) -> None:
        super().__init__(p, num_classes, ignore_index, same_on_batch, keepdim, data_keys)
        self.fill = fill
        self.quantiles = beta_quantiles(alpha)

    def draw(self, draws: Draws, size: Size) -> Params:
        return {"share": beta_of(draws.uniform(), self.quantiles)}

    def share_of(self, params: Params) -> Float[Tensor, " b"]:
        alone = params["partner"] == torch.arange(len(params["partner"]), device=params["partner"].device)
        return torch.where(alone, 0.0, params["share"] * params["gate"])

    def apply_transform(self, input: Tensor, params: Params, flags: dict[str, Any]) -> Tensor:
        share = self.share_of(params).to(input).view(-1, *[1] * (input.dim() - 1))
        other = input[params["partner"].to(input.device)]
        # What is not blended at all must not be touched by a partner's NaN.
        return torch.where(share == 0, input, input * (1 - share) + other * share)

    def apply_transform_mask(self, input: Tensor, params: Params, flags: dict[str, Any]) -> Tensor:
        raise NotImplementedError("class labels cannot be blended; give a batch dict, whose mask becomes probabilities")

    def change(self, batch: Mapping[str, Any], params: Params) -> dict[str, Any]:
        image = batch["image"]
        if not image.is_floating_point():
            raise ConfigurationError(f"RandomMixUp blends numbers, and the image is {image.dtype}: convert it first")
        share = self.share_of(params)
        changed = {**self.soft_labels(batch, params, share)}
        blended = self.apply_transform(image, params, {})
        valid, apart = batch.get("valid"), share == 0
        if valid is not None:
            both = valid & (valid[params["partner"]] | apart[:, None, None, None])
            spread = both if image.dim() == 4 else both[:, None]
            blended = torch.where(spread, blended, torch.as_tensor(self.fill, dtype=image.dtype, device=image.device))
            changed["valid"] = both
        if batch.get("mask") is not None:
            changed["mask"] = self._soft_mask(batch["mask"], params, share)
        if batch.get("cloud") is not None:
            cloud = batch["cloud"]
            theirs = cloud[params["partner"]]
            changed["cloud"] = torch.where(_over(apart, cloud) | (cloud > 0), cloud, theirs)
        return {**changed, "image": blended}

    def _soft_mask(self, mask: Tensor, params: Params, share: Float[Tensor, " b"]) -> Float[Tensor, "b k h w"]:
        if self.num_classes is None:
            raise ConfigurationError("RandomMixUp: masks become probabilities; say num_classes=")
        labels = mask.reshape(len(mask), *mask.shape[-2:]).long()
        known = labels != self.ignore_index
        one_hot = torch.nn.functional.one_hot(torch.where(known, labels, 0), self.num_classes).movedim(-1, 1).float()
        part = share.float()[:, None, None, None]
        partner = params["partner"]
        both = known & (known[partner] | (share == 0)[:, None, None])
        return (one_hot * (1 - part) + one_hot[partner] * part) * both[:, None]


class RandomCutMix(_Mix):
    """A box of each image taken from another one of the batch, pixels, labels and validity (Yun et al., 2019, ICCV).

    The box covers a Beta(alpha, alpha) share of the tile before it is cut at the edges. `label` becomes probabilities
    (B, K) by the share of pixels that really came from the partner; `mask`, `valid` and `cloud` are copied with them,
    bit for bit.

    Args:
        alpha: of the Beta distribution; 1 for all sizes alike.
        num_classes: K; needed for integer labels.
        ignore_index: label of pixels without a label.
        p: probability that a sample gets a box.
        same_on_batch: one box for the whole batch.
        keepdim: see kornia.
        data_keys: in kornia's way, where called with tensors: "input", "mask" and "class".
    """

    stream = _FIRST_STREAM + 1

    def __init__(
        self,
        alpha: float = 1.0,
        num_classes: int | None = None,
        ignore_index: int = 255,
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        data_keys: Any = None,
    ) -> None:
        super().__init__(p, num_classes, ignore_index, same_on_batch, keepdim, data_keys)
        self.quantiles = beta_quantiles(alpha)

    def draw(self, draws: Draws, size: Size) -> Params:
        side = beta_of(draws.uniform(), self.quantiles).sqrt()
        edges = []
        for length in size:
            half, middle = side * length / 2, draws.uniform(0.0, float(length))
            edges += [(middle - half).round().clamp(0, length), (middle + half).round().clamp(0, length)]
        top, bottom, left, right = edges
        area = (bottom - top) * (right - left) / (size.height * size.width)
        return {"top": top, "bottom": bottom, "left": left, "right": right, "share": area}

    def share_of(self, params: Params) -> Float[Tensor, " b"]:
        return params["share"] * params["gate"]

    def apply_transform(self, input: Tensor, params: Params, flags: dict[str, Any]) -> Tensor:
        box = self._box(params, Size(*input.shape[-2:])).to(input.device)
        return _exchanged(input, params["partner"].to(input.device), box)

    def apply_transform_mask(self, input: Tensor, params: Params, flags: dict[str, Any]) -> Tensor:
        return self.apply_transform(input, params, flags)

    def change(self, batch: Mapping[str, Any], params: Params) -> dict[str, Any]:
        grids = [n for n in ("image", "valid", "mask", "cloud", "dem") if isinstance(batch.get(n), Tensor)]
        moved = {name: self.apply_transform(batch[name], params, {}) for name in grids}
        return {**moved, **self.soft_labels(batch, params, self.share_of(params))}

    def _box(self, params: Params, size: Size) -> Bool[Tensor, "b h w"]:
        device = params["top"].device
        row = torch.arange(size.height, device=device)[:, None]
        column = torch.arange(size.width, device=device)

        def edge(name: str) -> Tensor:
            return params[name][:, None, None]

        down = (row >= edge("top")) & (row < edge("bottom"))
        return down & (column >= edge("left")) & (column < edge("right")) & (edge("gate") > 0)


class RandomSlideMix(_Mix):
    """A window of `size` anywhere on a tile that wraps around at its edges, so every pixel is seen equally often.

    The window may be as large as the tile, which is then shifted around. Labels of the tile stay. Where a window has
    crossed an edge, one geotransform no longer describes the tile: `transform` is then NaN.

    Args:
        size: of the window, one number or (height, width), pixels; None: the tile's own.
        p: probability that the window slides; it stands at the tile's upper left corner otherwise.
        same_on_batch: one window for the whole batch.
        keepdim: see kornia.
        data_keys: in kornia's way, where called with tensors: "input" and "mask".
    """

    stream = _FIRST_STREAM + 2

    def __init__(
        self,
        size: int | tuple[int, int] | None = None,
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        data_keys: Any = None,
    ) -> None:
        super().__init__(p, None, 255, same_on_batch, keepdim, data_keys)
        self.size = None if size is None else as_size(size, "size")

    def draw(self, draws: Draws, size: Size) -> Params:
        return {"top": draws.integer(size.height), "left": draws.integer(size.width)}

    def share_of(self, params: Params) -> Float[Tensor, " b"]:
        return torch.zeros_like(params["gate"])

    def _window(self, tile: Size) -> Size:
        if self.size is None:
            return tile
        if self.size.height > tile.height or self.size.width > tile.width:
            raise ConfigurationError(
                f"RandomSlideMix: a window of {tuple(self.size)} is larger than a tile of {tuple(tile)}"
            )
        return self.size

    def apply_transform(self, input: Tensor, params: Params, flags: dict[str, Any]) -> Tensor:
        tile = Size(*input.shape[-2:])
        window, device = self._window(tile), input.device
        moves = [(params[name] * params["gate"].long()).to(device)[:, None] for name in ("top", "left")]
        row = (moves[0] + torch.arange(window.height, device=device)).remainder(tile.height)
        column = (moves[1] + torch.arange(window.width, device=device)).remainder(tile.width)
        index = (row[:, :, None] * tile.width + column[:, None]).flatten(1)
        flat = to_bits(input).reshape(len(input), -1, tile.height * tile.width)
        taken = flat.gather(2, index[:, None].expand(-1, flat.shape[1], -1))
        return from_bits(taken, input.dtype).view(*input.shape[:-2], *window)

    def apply_transform_mask(self, input: Tensor, params: Params, flags: dict[str, Any]) -> Tensor:
        return self.apply_transform(input, params, flags)

    def change(self, batch: Mapping[str, Any], params: Params) -> dict[str, Any]:
        tile = Size(*batch["image"].shape[-2:])
        window = self._window(tile)
        grids = [n for n in ("image", "valid", "mask", "cloud", "dem") if isinstance(batch.get(n), Tensor)]
        moved = {name: self.apply_transform(batch[name], params, {}) for name in grids}
        if isinstance(batch.get("transform"), Tensor):
            top, left = (params[name] * params["gate"].long() for name in ("top", "left"))
            moved_transform = transform_geotransforms(batch["transform"], translation(-left.double(), -top.double()))
            wrapped = (top + window.height > tile.height) | (left + window.width > tile.width)
            moved["transform"] = torch.where(wrapped[:, None], torch.nan, moved_transform)
        return moved


def beta_quantiles(alpha: float) -> Float[Tensor, " n"]:
    """Quantiles of Beta(alpha, alpha) up to its median 1/2, at equal steps of probability, float64.

    In `s = x^alpha` the density is smooth up to x = 1/2 whatever alpha is, so a trapezoid sum is enough.
    """
    if not 0.01 <= alpha <= 100:
        raise ConfigurationError(f"alpha={alpha} of a Beta distribution is within [0.01, 100]")
    # The root first: steps are then even where large alphas have their mass.
    last = 0.5**alpha
    position = torch.linspace(0, 1, 16 * _QUANTILES + 1, dtype=torch.float64)
    x = position * 0.5 if alpha >= 1 else (position * last) ** (1 / alpha)
    density = (x * (1 - x)) ** (alpha - 1) if alpha >= 1 else (1 - x) ** (alpha - 1)
    total = torch.cumulative_trapezoid(density, position)
    total = torch.nn.functional.pad(total / total[-1], (1, 0))
    wanted = torch.linspace(0, 1, _QUANTILES + 1, dtype=torch.float64)
    after = torch.searchsorted(total, wanted).clamp(1, len(total) - 1)
    low, high = total[after - 1], total[after]
    share = ((wanted - low) / (high - low).clamp_min(1e-300)).clamp(0, 1)
    return x[after - 1] + (x[after] - x[after - 1]) * share


def beta_of(uniform: Float[Tensor, " b"], quantiles: Float[Tensor, " n"]) -> Float[Tensor, " b"]:
    """Beta distributed numbers from uniform ones, by the quantiles of the lower half."""
    table = quantiles.to(uniform.device, non_blocking=True)
    low = uniform < 0.5
    position = torch.where(low, uniform, 1 - uniform) * 2 * (len(quantiles) - 1)
    index = position.floor().long().clamp(0, len(quantiles) - 2)
    value = torch.lerp(table[index], table[index + 1], position - index)
    return torch.where(low, value, 1 - value)


def _exchanged(tensor: Tensor, partner: Int[Tensor, " b"], box: Bool[Tensor, "b h w"]) -> Tensor:
    bits = to_bits(tensor)
    where = box.view(len(box), *[1] * (tensor.dim() - 3), *box.shape[1:])
    return from_bits(torch.where(where, bits[partner], bits), tensor.dtype)


def _over(rows: Bool[Tensor, " b"], like: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (like.dim() - 1))

"""Batch norm under control: frozen for good, re-estimated on new bands, synchronised, or replaced by group norm.

Momentum is in torch's convention everywhere: `running = (1 - momentum) * running + momentum * batch`, so torch's 0.1
is what TensorFlow and the papers call 0.9. `None` is the plain average of all batches.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from geoaug.errors import ConfigurationError

__all__ = [
    "FrozenBatchNorm",
    "Norm",
    "SmallBatchWarning",
    "freeze_batchnorm",
    "recalibrate_batchnorm",
    "set_batchnorm_momentum",
    "unfreeze_batchnorm",
    "use_norm",
    "warn_of_small_batch",
]

Norm = Literal["batch", "group", "frozen", "sync"]

# Batches per device below this make worse networks (Wu and He, 2018, Group Normalization, figure 1).
SMALLEST_BATCH = 8

_MOST_GROUPS = 32


class SmallBatchWarning(UserWarning):
    """A batch per device from which batch norm takes poor statistics."""


class FrozenBatchNorm(nn.Module):
    """Batch norm whose statistics and weights are buffers: neither `.train()`, nor an optimizer, nor
    `requires_grad_`, nor a conversion to synchronised batch norm can change them.

    The keys of its state dict are those of `torch.nn.BatchNorm2d`, and so are its results in evaluation.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((num_features,), value))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


def freeze_batchnorm(model: nn.Module) -> nn.Module:
    """Freeze every batch norm of a model in place: statistics as well as weights, whatever `.train()` says.

    Returns:
        The model; where it is itself a batch norm, the module that takes its place.
    """
    return _replaced(model, _BatchNorm, _frozen)


def unfreeze_batchnorm(model: nn.Module, momentum: float | None = 0.1) -> nn.Module:
    """Turn frozen batch norms of a model back into `BatchNorm2d`, in place."""

    def thawed(frozen: FrozenBatchNorm) -> nn.Module:
        return _with_state_of(frozen, nn.BatchNorm2d(frozen.num_features, frozen.eps, momentum))

    return _replaced(model, FrozenBatchNorm, thawed)


def set_batchnorm_momentum(model: nn.Module, momentum: float | None) -> nn.Module:
    """Set the momentum of every batch norm, in torch's convention; None averages all batches alike."""
    if momentum is not None and not 0 < momentum <= 1:
        raise ConfigurationError(
            f"the momentum of batch norm is within (0, 1], not {momentum}: the weight of the new batch (torch's 0.1 is "
            "0.9 elsewhere)"
        )
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum
    return model


def use_norm(model: nn.Module, norm: Norm) -> nn.Module:
    """Replace every batch norm of a model, in place.

    "group" keeps scale and shift and has no statistics, so that it does not depend on the batch; "sync" takes its
    statistics over all devices (of CUDA and the like; alone, it is batch norm); "batch" changes nothing.
    """
    if norm not in get_args(Norm):
        raise ConfigurationError(f"norm={norm!r} is one of {', '.join(get_args(Norm))}")
    if norm == "group":
        return _replaced(model, _BatchNorm, _grouped)
    if norm == "frozen":
        return freeze_batchnorm(model)
    if norm == "sync":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call, no-any-return]
    return model


@torch.no_grad()
def recalibrate_batchnorm(
    model: nn.Module,
    loader: Iterable[Mapping[str, Any] | Sequence[Any] | Tensor],
    batches: int | None = None,
    forward: Callable[[Any], Any] | None = None,
) -> nn.Module:
    """Estimate the statistics of every batch norm anew, as a network with new bands needs before it is trained.

    Each becomes the mean and variance over all batches together, of what it is given while all the others normalise
    by their batch. Nothing else changes: weights stay, dropout is off, modes are as before. Where several processes
    train together, all of them count.

    Args:
        model: with batch norms that are not frozen (freeze afterwards).
        loader: batches as the network is given them: dicts with an `image`, (image, label, ...), or images; moved to
            the model's device.
        batches: how many to use; None for all.
        forward: called with each batch instead of the model with each image.

    Raises:
        ConfigurationError: no batch norm, or no batch.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not norms:
        raise ConfigurationError("the model has no batch norm to recalibrate; do it before freezing")
    modes = {module: module.training for module in model.modules()}
    device = next(iter(model.parameters())).device
    sums: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].detach().movedim(1, 0).flatten(1).double()
        count = torch.full_like(values[:, :1], values.shape[1]).sum(1)
        sums[module] = sums.get(module, torch.zeros((), device=values.device)) + torch.stack(
            (count, values.sum(1), values.square().sum(1))
        )

    momenta = [module.momentum for module in norms]
    handles = [module.register_forward_pre_hook(note) for module in norms]
    try:
        model.eval()
        for module in norms:
            module.train()
            module.momentum = 0.0  # what the passes would leave behind is not wanted
        for position, batch in enumerate(loader):
            if batches is not None and position >= batches:
                break
            if forward is not None:
                forward(batch)
            else:
                image = _image_of(batch)
                model(image.to(device, non_blocking=True))
    finally:
        for handle in handles:
            handle.remove()
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
        for part, mode in modes.items():
            part.training = mode
    if not sums:
        raise ConfigurationError("no batch to recalibrate batch norm with")
    for module in norms:
        if module in sums:
            _settle(module, sums[module])
    return model


def _image_of(batch: Mapping[str, Any] | Sequence[Any] | Tensor) -> Tensor:
    if isinstance(batch, Tensor):
        return batch
    image: Tensor = batch["image"] if isinstance(batch, Mapping) else batch[0]
    return image


def warn_of_small_batch(model: nn.Module, batch_size: int) -> None:
    """Warn where batch norm would learn from fewer than 8 samples on a device.

    Synchronised batch norm counts the samples of all devices.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    alone = [m for m in norms if not isinstance(m, nn.SyncBatchNorm)]
    processes = torch.distributed.get_world_size() if _distributed() else 1
    seen = batch_size if alone else batch_size * processes
    if norms and seen < SMALLEST_BATCH:
        warnings.warn(
            f"{seen} samples a batch on each device are few for batch norm, whose statistics they are: take "
            f"{SMALLEST_BATCH} or more, or norm='group', norm='frozen'"
            + (", or norm='sync' over several devices" if alone and processes > 1 else ""),
            SmallBatchWarning,
            stacklevel=2,
        )


def _settle(module: _BatchNorm, sums: Tensor) -> None:
    if _distributed():
        torch.distributed.all_reduce(sums)
    count, first, second = sums
    mean = first / count
    variance = (second / count - mean.square()).clamp_min(0) * count / (count - 1).clamp_min(1)
    assert module.running_mean is not None
    assert module.running_var is not None
    module.running_mean.copy_(mean)
    module.running_var.copy_(variance)


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _frozen(norm: _BatchNorm) -> nn.Module:
    if norm.running_mean is None:
        raise ConfigurationError("a batch norm that keeps no statistics cannot be frozen")
    return _with_state_of(norm, FrozenBatchNorm(norm.num_features, norm.eps))


def _grouped(norm: _BatchNorm) -> nn.Module:
    groups = math.gcd(norm.num_features, _MOST_GROUPS)
    return _with_state_of(norm, nn.GroupNorm(groups, norm.num_features, norm.eps, norm.affine))


def _with_state_of(old: nn.Module, new: nn.Module) -> nn.Module:
    state = old.state_dict()
    like = next(iter(state.values()))
    new.to(like.device, like.dtype)
    new.load_state_dict({name: state[name] for name in new.state_dict() if name in state}, strict=False)
    return new.train(old.training)


def _replaced(model: nn.Module, kind: type[Any], make: Callable[[Any], nn.Module]) -> nn.Module:
    if isinstance(model, kind):
        return make(model)
    for name, child in list(model.named_children()):
        if (new := _replaced(child, kind, make)) is not child:
            setattr(model, name, new)
    return model

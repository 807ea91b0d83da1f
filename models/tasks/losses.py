"""Losses that look only at what is known: labelled, valid pixels and chips.

A pixel counts where its label is not `ignore_index` and `valid` says that there is data. A batch in which nothing
counts has a loss of zero, with a gradient of zero, instead of the NaN that a mean over nothing is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoaug.errors import ConfigurationError

__all__ = ["ClassLoss", "ClassLossKind", "LossChoice", "ValueLoss", "ValueLossKind", "counted_labels"]

ClassLossKind = Literal["cross_entropy", "focal", "dice", "lovasz"]
ValueLossKind = Literal["mse", "mae", "huber"]


@dataclass(frozen=True)
class LossChoice:
    """A loss by plain values.

    Args:
        classes: of tasks with classes: "cross_entropy", "focal", "dice" or "lovasz".
        values: of regression: "mse", "mae" or "huber".
        label_smoothing: share of the label that is spread over all classes.
        cross_entropy_share: of cross-entropy beside Dice or Lovasz.
        class_weights: "balanced" (by counted labels), "none", or a number for each class.
    """

    classes: ClassLossKind = "cross_entropy"
    values: ValueLossKind = "mse"
    label_smoothing: float = 0.0
    cross_entropy_share: float = 0.0
    class_weights: Literal["balanced", "none"] | list[float] = "none"


class ClassLoss(nn.Module):
    """How wrong logits are about classes, of chips (B, K) or of pixels (B, K, H, W).

    One class of K: labels (B), (B, H, W) or (B, 1, H, W) of integers, or probabilities shaped as the logits, whose sum
    is 0 where nothing is known (as `RandomMixUp` makes them). Several classes at once (`multilabel`): 0, 1 or
    `ignore_index` for each, shaped as the logits.

    - "cross_entropy", with class weights and label smoothing as in torch;
    - "focal" (Lin et al., 2017, equation 4): cross-entropy times `(1 - p) ** gamma`, the weight of easy pixels taken
      away;
    - "dice" and "lovasz" (Berman et al., 2018), for pixels, of segmentation-models-pytorch: the overlap itself; alone
      they train slowly at first, so `cross_entropy` may be added by its share.

    Args:
        kind: see above.
        multilabel: whether classes hold independently.
        ignore_index: label of pixels without one.
        class_weights: K, of cross-entropy and focal loss.
        label_smoothing: in [0, 1), of cross-entropy.
        gamma: of the focal loss.
        cross_entropy_share: of "dice" and "lovasz", how much of the loss is cross-entropy, in [0, 1].
    """

    class_weights: Tensor | None

    def __init__(
        self,
        kind: ClassLossKind = "cross_entropy",
        *,
        multilabel: bool = False,
        ignore_index: int = 255,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        gamma: float = 2.0,
        cross_entropy_share: float = 0.0,
    ) -> None:
        super().__init__()
        if kind not in get_args(ClassLossKind):
            raise ConfigurationError(f"loss '{kind}' is one of {', '.join(get_args(ClassLossKind))}")
        if not 0 <= label_smoothing < 1:
            raise ConfigurationError(f"label_smoothing={label_smoothing} is a share within [0, 1)")
        if not 0 <= cross_entropy_share <= 1:
            raise ConfigurationError(f"cross_entropy_share={cross_entropy_share} is a share within [0, 1]")
        if class_weights is not None and not all(weight >= 0 for weight in class_weights):
            raise ConfigurationError("class_weights are not negative")
        pixelwise = kind in ("cross_entropy", "focal") or cross_entropy_share > 0
        if not pixelwise and (class_weights is not None or label_smoothing > 0):
            raise ConfigurationError(f"class_weights and label_smoothing are of cross-entropy, not of '{kind}' alone")
        self.kind, self.multilabel, self.ignore_index = kind, multilabel, ignore_index
        self.label_smoothing, self.gamma, self.cross_entropy_share = label_smoothing, gamma, cross_entropy_share
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.overlap: nn.Module | None = None
        if kind in ("dice", "lovasz"):
            from geoaug.models.networks.segmentation import library_loss

            mode = "multilabel" if multilabel else "multiclass"
            name = "DiceLoss" if kind == "dice" else "LovaszLoss"
            self.overlap = library_loss(name, mode=mode, ignore_index=ignore_index)

    def forward(self, logits: Tensor, labels: Tensor, valid: Tensor | None = None) -> Tensor:
        """The mean over what counts.

        Args:
            logits: (B, K) or (B, K, H, W).
            labels: see the class.
            valid: (B, 1, H, W), for pixels.

        Raises:
            ConfigurationError: shapes that do not fit, or a label that is no class.
        """
        logits = logits.float()
        if self.class_weights is not None and len(self.class_weights) != logits.shape[1]:
            raise ConfigurationError(f"{len(self.class_weights)} class_weights for {logits.shape[1]} classes")
        if self.multilabel:
            labels = counted_labels(labels, valid, logits, self.ignore_index, multilabel=True)
            return self._of_several(logits, labels)
        if labels.is_floating_point():
            return self._of_shares(logits, labels, valid)
        labels = counted_labels(labels, valid, logits, self.ignore_index)
        if self.overlap is None:
            return self._of_one(logits, labels)
        return self._with_overlap(logits, labels, self._of_one)

    def _with_overlap(self, logits: Tensor, labels: Tensor, pixelwise: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        if logits.dim() != 4:
            raise ConfigurationError(f"loss '{self.kind}' is for pixels (B, K, H, W), not {tuple(logits.shape)}")
        assert self.overlap is not None
        overlap = torch.as_tensor(self.overlap(logits, labels)).sum() + logits.sum() * 0
        if self.cross_entropy_share == 0:
            return overlap
        return torch.lerp(overlap, pixelwise(logits, labels), self.cross_entropy_share)

    def _of_one(self, logits: Tensor, labels: Tensor) -> Tensor:
        known = labels != self.ignore_index
        plain = F.cross_entropy(
            logits,
            labels,
            self.class_weights,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        if self.kind == "focal":
            own = -F.nll_loss(logits.log_softmax(1), labels, ignore_index=self.ignore_index, reduction="none")
            plain = plain * (1 - own.exp()) ** self.gamma
        share = known.float()
        if self.class_weights is not None:
            share = share * self.class_weights[torch.where(known, labels, 0)]
        return _mean(plain, share, known)

    def _of_shares(self, logits: Tensor, shares: Tensor, valid: Tensor | None) -> Tensor:
        if shares.shape != logits.shape:
            raise ConfigurationError(f"probabilities {tuple(shares.shape)} for logits {tuple(logits.shape)}")
        if self.kind in ("dice", "lovasz"):
            raise ConfigurationError(f"loss '{self.kind}' takes labels, not probabilities: do not mix samples")
        known = shares.sum(1) > 0
        if valid is not None and logits.dim() == 4:
            known = known & valid[:, 0]
        total = shares.shape[1]
        soft = shares * (1 - self.label_smoothing) + self.label_smoothing / total
        log = logits.log_softmax(1)
        each = soft * log
        if self.class_weights is not None:
            each = each * self.class_weights.view(-1, *[1] * (logits.dim() - 2))
        if self.kind == "focal":
            each = each * (1 - log.exp()) ** self.gamma
        return _mean(-each.sum(1), known.float(), known)

    def _of_several(self, logits: Tensor, labels: Tensor) -> Tensor:
        known = labels != self.ignore_index
        truth = torch.where(known, labels, 0).float()

        def pixelwise(logits: Tensor, labels: Tensor) -> Tensor:
            smooth = truth * (1 - self.label_smoothing) + self.label_smoothing / 2
            each = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
            if self.kind == "focal":
                hit = torch.where(truth > 0.5, logits.sigmoid(), 1 - logits.sigmoid())
                each = each * (1 - hit) ** self.gamma
            share = known.float()
            if self.class_weights is not None:
                share = share * self.class_weights.view(-1, *[1] * (logits.dim() - 2))
                each = each * self.class_weights.view(-1, *[1] * (logits.dim() - 2))
            return _mean(each, share, known)

        return pixelwise(logits, labels) if self.overlap is None else self._with_overlap(logits, labels, pixelwise)


class ValueLoss(nn.Module):
    """How far predicted numbers are off, where there is a number: not NaN, and valid.

    Args:
        kind: "mse", "mae" or "huber".
        delta: of the Huber loss, in units of the target: squares below it, straight above.
    """

    def __init__(self, kind: ValueLossKind = "mse", *, delta: float = 1.0) -> None:
        super().__init__()
        if kind not in get_args(ValueLossKind):
            raise ConfigurationError(f"loss '{kind}' is one of {', '.join(get_args(ValueLossKind))}")
        if delta <= 0:
            raise ConfigurationError(f"delta={delta} of the Huber loss is above 0")
        self.kind, self.delta = kind, delta

    def forward(self, predicted: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """The mean over what is known.

        Args:
            predicted: (B, K) or (B, K, H, W).
            target: of the same shape, or without the K where it is 1.
            valid: (B, 1, H, W), for pixels.
        """
        predicted = predicted.float()
        target = as_values(target, predicted)
        known = target.isfinite()
        if valid is not None and predicted.dim() == 4:
            known = known & valid
        target = torch.where(known, target, 0.0)
        if self.kind == "huber":
            each = F.huber_loss(predicted, target, reduction="none", delta=self.delta)
        elif self.kind == "mae":
            each = F.l1_loss(predicted, target, reduction="none")
        else:
            each = F.mse_loss(predicted, target, reduction="none")
        return _mean(each, known.float(), known)


def as_values(target: Tensor, predicted: Tensor) -> Tensor:
    """A target of numbers in the shape of what was predicted.

    Raises:
        ConfigurationError: it has another shape.
    """
    shaped = target.float()
    if shaped.dim() == predicted.dim() - 1 and predicted.shape[1] == 1:
        shaped = shaped.unsqueeze(1)
    if shaped.shape != predicted.shape:
        raise ConfigurationError(f"a target {tuple(target.shape)} for predictions {tuple(predicted.shape)}")
    return shaped


def counted_labels(
    labels: Tensor, valid: Tensor | None, logits: Tensor, ignore_index: int, *, multilabel: bool = False
) -> Tensor:
    """Integer labels as int64, `ignore_index` where pixels are invalid, checked against the logits.

    Returns:
        (B) or (B, H, W); for several labels at once in the shape of the logits.

    Raises:
        ConfigurationError: another shape, or a label that is no class. Labels are looked at on the CPU only, because
            looking waits for a device; elsewhere torch's own assertion stops the run.
    """
    given = labels
    if multilabel and logits.shape[1] == 1 and labels.dim() == logits.dim() - 1:
        labels = labels.unsqueeze(1)
    elif not multilabel and labels.dim() == logits.dim() and labels.shape[1] == 1:
        labels = labels[:, 0]
    wanted = logits.shape if multilabel else torch.Size((logits.shape[0], *logits.shape[2:]))
    if labels.shape != wanted:
        raise ConfigurationError(f"labels {tuple(given.shape)} for logits {tuple(logits.shape)}")
    labels = labels.long()
    classes = 2 if multilabel else logits.shape[1]
    if labels.device.type == "cpu":
        beyond = (labels != ignore_index) & ((labels < 0) | (labels >= classes))
        if bool(beyond.any()):
            raise ConfigurationError(
                f"label {int(labels[beyond][0])} is neither within 0 to {classes - 1} nor ignore_index={ignore_index}"
            )
    if valid is not None and logits.dim() == 4:
        labels = torch.where(valid if multilabel else valid[:, 0], labels, ignore_index)
    return labels


def _mean(each: Tensor, share: Tensor, known: Tensor) -> Tensor:
    # torch.where first: what does not count may be NaN, and NaN times zero is NaN.
    total = torch.where(known, each, 0.0).sum()
    return total / share.sum().clamp_min(torch.finfo(torch.float32).tiny)

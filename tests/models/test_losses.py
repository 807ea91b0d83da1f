"""Losses against torch's own and their definitions, on what counts and on nothing else."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from geoaug.errors import ConfigurationError
from geoaug.models import ClassLoss, ValueLoss


@pytest.fixture
def pixels() -> tuple[Tensor, Tensor, Tensor]:
    """Logits of three classes, labels with some ignored, validity; every class is there."""
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, 8, 8))
    labels[:, :2] = 255
    return torch.randn(2, 3, 8, 8), labels.to(torch.uint8), torch.rand(2, 1, 8, 8) > 0.3


def counted(labels: Tensor, valid: Tensor) -> Tensor:
    return (labels != 255) & valid[:, 0]


def test_cross_entropy_is_torchs_over_what_counts(pixels: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, valid = pixels
    known = counted(labels, valid)
    weights = [0.5, 2.0, 1.0]
    loss = ClassLoss(class_weights=weights, label_smoothing=0.1)(logits, labels, valid)
    own, truth = logits.movedim(1, -1)[known], labels[known].long()
    # Torch smooths the weighted loss by the sum of all weights; without weights the two are one.
    plain = ClassLoss(label_smoothing=0.1)(logits, labels[:, None], valid)
    torch.testing.assert_close(plain, F.cross_entropy(own, truth, label_smoothing=0.1))
    torch.testing.assert_close(loss, F.cross_entropy(own, truth, torch.tensor(weights), label_smoothing=0.1))


def test_focal_loss_is_its_definition_and_cross_entropy_at_gamma_zero(pixels: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, valid = pixels
    known = counted(labels, valid)
    p = logits.softmax(1).movedim(1, -1)[known].gather(1, labels[known].long()[:, None])
    torch.testing.assert_close(ClassLoss("focal", gamma=2.0)(logits, labels, valid), (-((1 - p) ** 2) * p.log()).mean())
    torch.testing.assert_close(ClassLoss("focal", gamma=0.0)(logits, labels, valid), ClassLoss()(logits, labels, valid))


def test_dice_loss_is_its_definition(pixels: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, valid = pixels
    known = counted(labels, valid)
    p, t = logits.softmax(1).movedim(1, -1)[known], F.one_hot(labels[known].long(), 3).float()
    dice = 2 * (p * t).sum(0) / (p.sum(0) + t.sum(0))
    torch.testing.assert_close(ClassLoss("dice")(logits, labels, valid), (1 - dice).mean())
    mixed = ClassLoss("dice", cross_entropy_share=0.25)(logits, labels, valid)
    torch.testing.assert_close(mixed, 0.75 * (1 - dice).mean() + 0.25 * ClassLoss()(logits, labels, valid))


def test_lovasz_loss_is_the_jaccard_index_of_certain_answers(pixels: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, valid = pixels
    known = counted(labels, valid)
    loss = ClassLoss("lovasz")(logits * 1e4, labels, valid)
    answer, truth = logits.argmax(1)[known], labels[known]
    jaccard = [((answer == k) & (truth == k)).sum() / ((answer == k) | (truth == k)).sum() for k in range(3)]
    torch.testing.assert_close(loss, 1 - torch.stack(jaccard).mean())


@pytest.mark.parametrize("kind", ["cross_entropy", "focal", "dice", "lovasz"])
@pytest.mark.parametrize("multilabel", [False, True])
def test_what_does_not_count_has_no_say(pixels: tuple[Tensor, Tensor, Tensor], kind: str, multilabel: bool) -> None:
    logits, labels, valid = pixels
    if multilabel:
        labels = torch.where(labels[:, None] == 255, 255, (torch.rand(2, 3, 8, 8) > 0.5).long())
    loss = ClassLoss(kind, multilabel=multilabel)
    silent = ~valid.expand_as(logits)
    other = torch.where(silent, torch.randn_like(logits) * 5, logits).requires_grad_()
    found = loss(other, labels, valid)
    torch.testing.assert_close(found, loss(logits, labels, valid))
    found.backward()
    assert not other.grad[silent].any()
    assert other.grad.any()
    nothing = other.detach().clone().requires_grad_()
    zero = loss(nothing, labels, torch.zeros_like(valid))
    zero.backward()
    assert float(zero.detach()) == 0.0
    assert not nothing.grad.any()


def test_several_labels_at_once_are_binary_cross_entropies() -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(6, 4), (torch.rand(6, 4) > 0.5).long()
    labels[0, 1] = labels[3, 2] = 255
    known = labels != 255
    expected = F.binary_cross_entropy_with_logits(logits[known], labels[known].float())
    torch.testing.assert_close(ClassLoss(multilabel=True)(logits, labels), expected)


def test_probabilities_are_taken_as_torch_takes_them() -> None:
    torch.manual_seed(2)
    logits, shares = torch.randn(5, 3), torch.rand(5, 3).softmax(1)
    torch.testing.assert_close(
        ClassLoss(label_smoothing=0.2)(logits, shares), F.cross_entropy(logits, shares, label_smoothing=0.2)
    )
    shares[2] = 0  # nothing known of it
    keep = [0, 1, 3, 4]
    torch.testing.assert_close(ClassLoss()(logits, shares), F.cross_entropy(logits[keep], shares[keep]))


@pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
def test_numbers_are_compared_where_there_are_numbers(kind: str) -> None:
    torch.manual_seed(3)
    predicted = torch.randn(2, 1, 6, 6, requires_grad=True)
    target, valid = torch.randn(2, 6, 6) * 3, torch.rand(2, 1, 6, 6) > 0.4
    target[0, 0] = torch.nan
    known = target.isfinite() & valid[:, 0]
    torch_loss = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}[kind]
    found = ValueLoss(kind)(predicted, target, valid)
    torch.testing.assert_close(found, torch_loss(predicted[:, 0][known], target[known]))
    found.backward()
    assert bool(predicted.grad.isfinite().all())
    chips = ValueLoss(kind)(predicted[:, :, 0, 0], target[:, 1, 0])
    torch.testing.assert_close(chips, torch_loss(predicted[:, 0, 0, 0], target[:, 1, 0]))


@pytest.mark.parametrize(
    ("loss", "logits", "labels", "message"),
    [
        (ClassLoss(), torch.zeros(2, 3), torch.tensor([0, 3]), "label 3 is neither within 0 to 2 nor ignore_index=255"),
        (ClassLoss(), torch.zeros(2, 3), torch.tensor([0, -1]), "label -1"),
        (ClassLoss(), torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4).long(), r"labels \(2, 5, 4\) for logits"),
        (ClassLoss(class_weights=[1, 2]), torch.zeros(2, 3), torch.tensor([0, 1]), "2 class_weights for 3"),
        (ClassLoss(multilabel=True), torch.zeros(1, 2), torch.tensor([[0, 2]]), "label 2"),
        (ClassLoss("dice"), torch.zeros(2, 3), torch.tensor([0, 1]), "for pixels"),
        (ValueLoss(), torch.zeros(2, 2), torch.zeros(2), "a target"),
    ],
)
def test_what_does_not_fit_is_said(loss: torch.nn.Module, logits: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        loss(logits, labels)


@pytest.mark.parametrize(
    "arguments",
    [{"kind": "hinge"}, {"label_smoothing": 1.0}, {"class_weights": [-1.0]}, {"kind": "dice", "label_smoothing": 0.1}],
)
def test_losses_that_cannot_be_are_refused(arguments: dict) -> None:
    with pytest.raises(ConfigurationError):
        ClassLoss(**arguments)

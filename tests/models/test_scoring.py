"""A model as an audit sees it: accuracy and loss of tiles, by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_chips import CLASSES, write_chips

from geoaug.audit.job import AuditJob
from geoaug.audit.realism import run_audit
from geoaug.errors import ConfigurationError
from geoaug.models.networks.card import ClassName, ModelCard
from geoaug.models.networks.model_file import LoadedModel
from geoaug.models.networks.resnet import resnet18
from geoaug.models.scoring import _scores, tile_scorer
from geoaug.sensors import get_sensor


def test_scores_are_means_over_what_has_a_label() -> None:
    answers = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.3, 0.5]]))
    accuracy, loss = _scores(answers, torch.tensor([0, 0, 255]), 255)
    np.testing.assert_allclose(accuracy, [1, 0, np.nan])
    np.testing.assert_allclose(loss, [-np.log(0.7), -np.log(0.3), np.nan], rtol=1e-5)
    maps = answers[:2, :, None, None].expand(2, 3, 2, 2).clone()
    labels = torch.tensor([[[0, 1], [255, 255]], [[1, 1], [1, 0]]])
    accuracy, loss = _scores(maps, labels, 255)
    np.testing.assert_allclose(accuracy, [0.5, 0.75])
    np.testing.assert_allclose(loss[0], -(np.log(0.7) + np.log(0.2)) / 2, rtol=1e-5)


def brightest(classes: tuple[str, ...] = CLASSES) -> LoadedModel:
    """A network that answers with the brightest band, which is the class of the made chips."""
    torch.manual_seed(0)
    network = resnet18(None, get_sensor("rgb"), len(classes))

    class Brightest(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return 4 * image.mean((2, 3))

    card = ModelCard(
        network.architecture, get_sensor("rgb"), "classification", (0.4,) * 3, (0.1,) * 3,
        classes=tuple(ClassName(name, (0, 0, 0)) for name in classes),
    )  # fmt: skip
    return LoadedModel(Brightest(), card)  # type: ignore[arg-type]


@pytest.mark.slow
def test_affinity_falls_where_an_operation_destroys_the_class(tmp_path: Path) -> None:
    chips = write_chips(tmp_path / "chips", count=12, size=32)
    lost = {"operations": [{"RandomBandDropout": {"max_bands": 2, "p": 1.0}}]}
    job = AuditJob(
        [lost, {"operations": ["RandomD4"]}],
        [str(chips)],
        strengths=(1.0,),
        operations=False,
        sensor="rgb",
        device="cpu",
    )
    found, _ = run_audit(job, tile_scorer(brightest(), "cpu"))
    dropped, flipped = (recipe.as_written for recipe in found.recipes)
    assert flipped.affinity == pytest.approx(1)
    assert flipped.diversity == pytest.approx(1, rel=1e-4)
    assert dropped.affinity is not None
    assert dropped.diversity is not None
    assert dropped.affinity < 0.8
    assert dropped.diversity > 1.5


def test_classes_that_the_model_does_not_know_are_refused(tmp_path: Path) -> None:
    chips = write_chips(tmp_path / "chips", count=12, size=32)
    job = AuditJob(
        [{"operations": ["RandomD4"]}], [str(chips)], strengths=(1.0,), operations=False, sensor="rgb", device="cpu"
    )
    with pytest.raises(ConfigurationError, match="not one of the model's"):
        run_audit(job, tile_scorer(brightest(("a", "b", "c")), "cpu"))
    several = brightest()
    with pytest.raises(ConfigurationError, match="no accuracy of one class"):
        tile_scorer(LoadedModel(several.network, replace(several.card, multilabel=True)), "cpu")

"""Test-time augmentation: every view has an exact way back, and the mean is the mean."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geoaug import Compose
from geoaug.augment import RandomD4, TestTime
from geoaug.augment.kernels.warp import warp
from geoaug.augment.planning import matrices
from geoaug.augment.planning.matrices import Size
from geoaug.augment.test_time import turned, turned_back
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys

GROUPS = {"d4": 8, "c4": 4, "flips": 4, "none": 1}
DTYPES = [torch.uint8, torch.uint16, torch.int16, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group", GROUPS)
def test_the_way_back_is_exact(group: str, dtype: torch.dtype) -> None:
    image = torch.randint(0, 60_000 if dtype == torch.uint16 else 2, (2, 3, 5, 8)).to(dtype)
    tta = TestTime(group)
    assert len(tta.views(image)) == len(tta) == GROUPS[group]
    for member, view in zip(tta.members, tta.views(image), strict=True):
        back = turned_back(view, member)
        assert torch.equal(back.view(torch.uint8), image.view(torch.uint8))


def test_views_are_those_of_the_matrices_and_all_different() -> None:
    image = torch.rand(1, 2, 6, 9)
    seen = set()
    for member in range(8):
        view = turned(image, member)
        matrix = matrices.about_centre(matrices.dihedral(torch.tensor([member])), Size(6, 9), Size(*view.shape[-2:]))
        assert torch.equal(view, warp(image, matrix, Size(*view.shape[-2:])))
        seen.add(tuple(view.flatten().tolist()) + tuple(view.shape))
    assert len(seen) == 8


class Slanted(nn.Module):
    """A network that prefers a direction: a convolution, pixel by pixel and as one answer."""

    def __init__(self, dense: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.dense = nn.Conv2d(3, 4, 3, padding=1, stride=1), dense

    def forward(self, image: Tensor) -> Tensor:
        seen = self.convolution(image).square() + torch.linspace(0, 1, image.shape[-1])
        return seen if self.dense else seen.amax((-2, -1))


@pytest.mark.parametrize("group", ["d4", "c4", "flips"])
def test_a_slanted_network_becomes_even_handed(group: str) -> None:
    image, tta = torch.rand(2, 3, 8, 8), TestTime(group)
    dense, whole = Slanted(dense=True), Slanted(dense=False)
    with torch.inference_mode():
        answer, label = tta(dense, image), tta(whole, image)
        for member in tta.members[1:]:
            view = turned(image, member)
            assert not torch.allclose(dense(view), turned(dense(image), member), atol=1e-3)
            assert torch.allclose(tta(dense, view), turned(answer, member), atol=1e-5)
            assert torch.allclose(tta(whole, view), label, atol=1e-5)


def test_the_mean_is_over_logits_or_over_probabilities() -> None:
    image, model, tta = torch.rand(1, 3, 6, 6), Slanted(dense=False), TestTime("d4")
    with torch.inference_mode():
        each = torch.stack([model(view) for view in tta.views(image)])
        assert torch.allclose(tta(model, image), each.mean(0), atol=1e-6)
        assert torch.allclose(tta(model, image, activation="softmax"), each.softmax(-1).mean(0), atol=1e-6)
        assert torch.allclose(tta(model, image, activation="sigmoid"), each.sigmoid().mean(0), atol=1e-6)


def test_answers_come_in_dicts_tuples_and_coarser_grids() -> None:
    image = torch.rand(2, 3, 8, 12)

    def model(view: Tensor) -> dict[str, Any]:
        coarse = nn.functional.avg_pool2d(view, 4)
        return {"out": view, "aux": (coarse, view[:, 0]), "label": view.mean((-2, -1))}

    out = TestTime("d4")(model, image)
    assert torch.allclose(out["out"], image, atol=1e-6)
    assert torch.allclose(out["aux"][0], nn.functional.avg_pool2d(image, 4), atol=1e-6)
    assert torch.allclose(out["aux"][1], image[:, 0], atol=1e-6)
    assert torch.allclose(out["label"], image.mean((-2, -1)), atol=1e-6)


def test_boxes_come_back_to_where_they_were() -> None:
    image = torch.zeros(2, 1, 10, 16)
    boxes = [torch.tensor([[1.0, 2.0, 5.0, 9.0], [0.0, 0.0, 16.0, 10.0]]), torch.tensor([[3.0, 4.0, 6.0, 5.0]])]
    batch = {"image": image, "bbox_xyxy": boxes}
    out = TestTime("d4")(lambda view: view["bbox_xyxy"], batch)
    assert [len(found) for found in out] == [16, 8]
    assert torch.allclose(out[0], boxes[0].repeat(8, 1), atol=1e-5)
    assert torch.allclose(out[1], boxes[1].repeat(8, 1), atol=1e-5)


def test_a_batch_turns_with_its_place_and_its_sun() -> None:
    batch = {
        "image": torch.rand(1, 2, 6, 6),
        "mask": torch.randint(0, 9, (1, 6, 6)),
        "valid": torch.rand(1, 1, 6, 6) > 0.5,
        "transform": torch.tensor([[10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0]], dtype=torch.float64),
        "sun_azimuth": torch.tensor([150.0]),
        "crs": ["EPSG:32633"],
    }
    views = TestTime("d4").views(batch)
    plan_free = Compose([RandomD4()])
    # The same symmetry through the augmentation engine moves everything alike.
    for index in range(64):
        keyed = {**batch, "key": sample_keys(0, [index])}
        symmetry = int(plan_free.plan(keyed).drawn[0].params["symmetry"][0])
        out = plan_free(keyed)
        view = views[TestTime("d4").members.index(symmetry)]
        assert torch.equal(view["mask"][view["valid"][:, 0]], out["mask"][out["valid"][:, 0]])
        assert torch.equal(view["valid"], out["valid"])
        assert torch.allclose(view["transform"], out["transform"])
        assert torch.allclose(view["sun_azimuth"], out["sun_azimuth"])
        assert view["crs"] == ["EPSG:32633"]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: TestTime("d8"), "group='d8' is one of d4"),  # type: ignore[arg-type]
        (lambda: TestTime("c4").restore([torch.zeros(1, 2)]), "1 outputs for the 4 views"),
        (lambda: TestTime()(lambda view: view.argmax(1), torch.rand(1, 3, 4, 4)), "give the model's logits"),
        (lambda: TestTime()(lambda view: "cat", torch.rand(1, 3, 4, 4)), "not str"),
        (lambda: TestTime()(lambda view: view, torch.rand(1, 3, 4, 4), activation="tanh"), "activation='tanh'"),
        (lambda: TestTime().restore([[torch.zeros(1, 4)]] * 8), "give the sizes of the views"),
        (lambda: TestTime().views({"picture": torch.zeros(1)}), "a tensor under 'image'"),
    ],
)
def test_mistakes_are_named(run: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run()

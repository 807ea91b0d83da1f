"""Nodata and NaN contribute nothing, spread nowhere, and labels are never invented."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geoaug import Compose, load_recipe
from geoaug.augment import RandomAffine, RandomD4, RandomRotation
from geoaug.augment.kernels import warp
from geoaug.rng.draws import sample_keys
from geoaug.sensors import generic_sensor

POISON = 1e6


def batch_with_holes(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(1, 100, (3, 2, 40, 40), generator=generator).to(dtype)
    valid = torch.rand(3, 1, 40, 40, generator=generator) > 0.2
    valid[:, :, :10, :15] = False
    mask = torch.randint(3, 6, (3, 40, 40), generator=generator)
    return {"image": image, "valid": valid, "mask": mask, "key": sample_keys(seed, range(3))}


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32))
def test_values_of_invalid_pixels_do_not_matter(seed: int) -> None:
    batch = batch_with_holes(seed)
    compose = Compose([RandomAffine(40, (0.1, 0.1), (0.7, 1.4), 10, p=1.0)])
    clean = compose(batch)
    poisoned = compose({**batch, "image": torch.where(batch["valid"], batch["image"], POISON)})
    assert torch.equal(clean["image"], poisoned["image"])
    assert torch.equal(clean["valid"], poisoned["valid"])
    kept = clean["image"][clean["valid"].expand_as(clean["image"])]
    assert kept.min() > 1 - 1e-3
    assert kept.max() < 100 + 1e-3


def test_valid_output_is_the_weighted_mean_of_valid_neighbours() -> None:
    batch = batch_with_holes(1)
    compose = Compose([RandomRotation((25, 25), p=1.0)])
    plan = compose.plan(batch)
    out = compose.apply(batch, plan)
    weight = batch["valid"].double()
    x, y = warp.sampling_coordinates(plan.matrix, plan.size)
    support = warp.bilinear_exact(weight, x.double(), y.double())
    total = warp.bilinear_exact(batch["image"].double() * weight, x.double(), y.double())
    clear = (support - 0.5).abs() > 1e-4
    assert torch.equal(out["valid"][clear], (support >= 0.5)[clear])
    expected = (total / support.clamp_min(1e-9)).float()
    inside = out["valid"].expand_as(expected)
    assert torch.allclose(out["image"][inside], expected[inside], atol=1e-2)


@pytest.mark.parametrize("operations", [[RandomD4()], [RandomRotation(45, p=1.0)]])
@pytest.mark.parametrize("missing", [torch.nan, torch.inf, -torch.inf])
def test_nan_behaves_as_nodata(operations: list[torch.nn.Module], missing: float) -> None:
    batch = batch_with_holes(2)
    holes = torch.where(batch["valid"], batch["image"], missing)
    compose = Compose(operations, fill=-5.0)
    flagged = compose(batch)
    implied = compose({"image": holes, "mask": batch["mask"], "key": batch["key"]})
    for name in ("image", "valid", "mask"):
        assert torch.equal(flagged[name], implied[name])
    assert (flagged["image"][~flagged["valid"].expand_as(flagged["image"])] == -5.0).all()
    assert flagged["image"].isfinite().all()


def test_nan_in_one_band_makes_the_pixel_invalid_in_all() -> None:
    image = torch.ones(1, 3, 9, 9)
    image[0, 1, 4, 4] = torch.nan
    out = Compose([])({"image": image})
    assert not out["valid"][0, 0, 4, 4]
    assert out["valid"].sum() == 80
    assert (out["image"][0, :, 4, 4] == 0).all()


@pytest.mark.parametrize("preset", ["light", "standard", "strong"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64])
def test_no_label_appears_that_was_not_there(preset: str, dtype: torch.dtype) -> None:
    batch = batch_with_holes(3, torch.uint16)
    batch["mask"] = batch["mask"].to(dtype)
    compose = load_recipe(preset).compose(sensor=generic_sensor(2, 10000.0), out_units="dn", out_dtype=torch.uint16)
    out = compose(batch)
    assert out["mask"].dtype == dtype
    assert set(out["mask"].long().unique().tolist()) <= {3, 4, 5, 255}
    assert (out["mask"].long()[~out["valid"][:, 0]] == 255).all()


def test_too_little_support_is_invalid_whatever_the_threshold() -> None:
    batch = batch_with_holes(4)
    lax, strict = (
        Compose([RandomRotation((20, 20), p=1.0)], min_support=share)(batch)["valid"] for share in (0.01, 0.999)
    )
    assert (strict <= lax).all()
    assert strict.sum() < lax.sum()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16])
def test_valid_pixels_never_take_the_nodata_value(dtype: torch.dtype) -> None:
    image = torch.randint(0, 3, (4, 2, 20, 20)).to(dtype)
    valid = torch.rand(4, 1, 20, 20) > 0.3
    compose = Compose([RandomD4()], out_units="dn", out_dtype=None, fill=0, reserve_fill=True)
    out = compose({"image": image, "valid": valid})
    hole = ~out["valid"].expand(4, 2, 20, 20)
    values = out["image"].int()
    assert (values[hole] == 0).all()
    assert (values[~hole] >= 1).all()
    high = torch.iinfo(dtype).max
    top = Compose([], out_units="dn", out_dtype=None, fill=high, reserve_fill=True)(
        {"image": torch.full((1, 1, 4, 4), high).to(dtype)}
    )
    assert (top["image"].int() == high - 1).all()


def test_standalone_warp_keeps_nan_and_its_neighbours_apart() -> None:
    image = torch.ones(1, 1, 30, 30)
    image[..., 10:20, 10:20] = torch.nan
    out = RandomRotation((45, 45), p=1.0)(image)[0, 0]
    inner = out[8:22, 8:22]
    assert inner.isnan().any()
    assert (inner[~inner.isnan()] - 1).abs().max() < 1e-6
    assert out[0, 0] == 0  # outside the image


def test_a_valid_pixel_may_hold_the_fill_value_unless_it_is_reserved() -> None:
    image = torch.randint(0, 3, (2, 3, 8, 8)).to(torch.uint8)
    out = Compose([], out_units="dn", out_dtype=None)({"image": image})
    assert torch.equal(out["image"], image)


def test_no_label_comes_from_a_pixel_without_data() -> None:
    generator = torch.Generator().manual_seed(0)
    valid = torch.rand(2, 1, 60, 60, generator=generator) > 0.3
    mask = torch.where(valid[:, 0], 1, 7)
    image = torch.where(valid, 1.0, torch.nan)
    for batch in ({"image": image.nan_to_num(), "valid": valid}, {"image": image}):
        out = Compose([RandomRotation((13, 13), p=1.0)])({**batch, "mask": mask})
        assert set(out["mask"].unique().tolist()) == {1, 255}

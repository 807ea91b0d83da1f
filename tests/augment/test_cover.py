"""Corners that turn in from beyond a tile: left, avoided by enlarging, or filled with a mirror image."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from geoaug import Compose, get_sensor, load_recipe
from geoaug.augment import (
    RandomAffine,
    RandomCrop,
    RandomD4,
    RandomRotation,
    RandomSensorNoise,
    RandomStriping,
    Resize,
)
from geoaug.augment.planning.matrices import Size, footprint, growth, inverse, is_exact
from geoaug.augment.planning.plan import Plan
from geoaug.augment.recipe import Recipe
from geoaug.errors import ConfigurationError
from geoaug.presets import preset_names
from geoaug.rng.draws import sample_keys

MANY = 60


def tiles(height: int = 40, width: int = 52, count: int = MANY, **more: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.randint(1, 4000, (count, 2, height, width), generator=generator, dtype=torch.int16),
        "mask": torch.randint(0, 9, (count, height, width), generator=generator, dtype=torch.uint8),
        "key": sample_keys(3, range(count)),
        **more,
    }


def turned() -> list[torch.nn.Module]:
    return [RandomD4(), RandomAffine(25, (0.1, 0.1), (0.75, 1.3), 6, p=0.8)]


def reached(plan: Plan) -> tuple[Tensor, Tensor]:
    """First and last column and row of the input that the corners of the output are taken from."""
    corners = footprint(plan.matrix, plan.size)
    return corners.amin(1), corners.amax(1)


@pytest.mark.parametrize("executor", ["torch", pytest.param("cpu", marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [None, 33, (64, 24), 90])
@pytest.mark.parametrize("cover", ["zoom", "reflect"])
def test_no_pixel_is_invalid(cover: Any, size: Any, executor: Any) -> None:
    batch = tiles()
    fit: Any = "resize" if size == 90 and cover == "reflect" else "crop"
    out = Compose(turned(), size=size, fit=fit, cover=cover, executor=executor)(batch)
    assert out["valid"].all()
    assert (out["mask"] != 255).all()
    left = Compose(turned(), size=size, fit=fit, executor=executor)(batch)
    assert not left["valid"].all()
    assert out["image"].shape == left["image"].shape


def test_what_lies_inside_is_left_bit_for_bit() -> None:
    operations = [RandomD4(), RandomAffine(25, (0.1, 0.1), (0.9, 2.5), p=0.8)]
    batch = tiles(40, 40)
    plain, zoomed = Compose(operations).plan(batch), Compose(operations, cover="zoom").plan(batch)
    low, high = reached(plain)
    inside = (low >= 0).all(1) & (high <= 39).all(1)
    assert 5 < inside.sum() < MANY - 5
    assert torch.equal(plain.matrix[inside], zoomed.matrix[inside])
    assert not (plain.matrix == zoomed.matrix).flatten(1).all(1)[~inside].any()


def test_the_image_is_enlarged_as_little_as_needed_and_moved_as_little() -> None:
    batch = tiles()
    plain, zoomed = Compose(turned()).plan(batch), Compose(turned(), cover="zoom").plan(batch)
    low, high = reached(zoomed)
    last = torch.tensor((51.0, 39.0), dtype=torch.float64)
    assert (low >= -1e-6).all()
    assert (high <= last + 1e-6).all()
    ratio = growth(zoomed.matrix) / growth(plain.matrix)
    extent = reached(plain)[1] - reached(plain)[0]
    torch.testing.assert_close(ratio, (extent / last).amax(1).clamp_min(1), rtol=1e-6, atol=0)
    # The linear map is the same but for that, and the centre moved only where it had to.
    torch.testing.assert_close(
        zoomed.matrix[:, :2, :2], plain.matrix[:, :2, :2] * ratio[:, None, None], rtol=1e-6, atol=1e-8
    )
    centre = torch.tensor((25.5, 19.5, 1.0), dtype=torch.float64)
    before, after = (inverse(plan.matrix) @ centre for plan in (plain, zoomed))
    room = (last - extent / ratio[:, None]) / 2
    expected = torch.minimum(torch.maximum(before[:, :2], centre[:2] - room), centre[:2] + room)
    torch.testing.assert_close(after[:, :2], expected, rtol=0, atol=1e-5)


def test_symmetries_stay_exact_whatever_a_tile_lacks() -> None:
    valid = torch.ones(MANY, 1, 40, 40, dtype=torch.bool)
    valid[:, :, :, 25:] = False
    batch = tiles(40, 40, valid=valid)
    assert is_exact(Compose([RandomD4()], cover="zoom").plan(batch).matrix).all()
    assert is_exact(Compose([RandomD4()], cover="zoom").plan(batch, context=6).matrix).all()


def test_surroundings_are_used_as_far_as_they_are_valid() -> None:
    """A tile of 40 with 20 pixels around it, of which those on the right are beyond the scene."""
    valid = torch.ones(MANY, 1, 80, 80, dtype=torch.bool)
    valid[: MANY // 2, :, :, 60:] = False
    batch = tiles(80, 80, valid=valid)
    compose = Compose([RandomRotation(40, p=1.0)], cover="zoom")
    plan = compose.plan(batch, context=20)
    assert (growth(plan.matrix)[MANY // 2 :] - 1).abs().max() < 1e-6
    low, high = reached(plan)
    assert float(high[: MANY // 2, 0].max()) <= 59 + 1e-6
    assert float(low.min()) < 19
    assert compose(batch, context=20)["valid"].all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.float32])
def test_a_mirror_image_is_that_of_numpy(dtype: torch.dtype) -> None:
    """As if the surroundings had been there, and were what `numpy.pad` makes of the tile."""
    batch = tiles()
    batch["image"] = (batch["image"] % 200).to(dtype)
    batch["valid"] = torch.rand(MANY, 1, 40, 52, generator=torch.Generator().manual_seed(2)) > 0.1
    batch["dem"] = torch.rand(MANY, 1, 40, 52)
    compose = Compose(turned(), cover="reflect", out_dtype=None, out_units="dn", executor="torch")
    margin = compose.required_context((40, 52))
    assert margin > 5

    def padded(value: Tensor) -> Tensor:
        sides = [(0, 0)] * (value.dim() - 2) + [(margin, margin)] * 2
        return torch.from_numpy(np.pad(value.numpy(), sides, mode="reflect"))

    around = {**batch, **{name: padded(batch[name]) for name in ("image", "valid", "mask", "dem")}}
    expected = Compose(turned(), out_dtype=None, out_units="dn", executor="torch")(around, context=margin)
    out = compose(batch)
    for name in ("image", "valid", "mask"):
        assert torch.equal(out[name], expected[name]), name
    torch.testing.assert_close(out["dem"], expected["dem"], equal_nan=True)


@pytest.mark.parametrize("cover", ["zoom", "reflect"])
def test_place_and_boxes_follow(cover: Any) -> None:
    """The geotransform of the output leads to the ground whose pixels it shows."""
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(52.0), indexing="ij")
    place = torch.tensor((10.0, 0.0, 500000.0, 0.0, -10.0, 6000000.0), dtype=torch.float64)
    batch = {
        "image": torch.stack((columns, rows)).expand(MANY, 2, 40, 52),
        "key": sample_keys(3, range(MANY)),
        "transform": place.expand(MANY, 6),
        "bbox_xyxy": [torch.tensor([[20.0, 15.0, 32.0, 25.0]])] * MANY,
    }
    compose = Compose(turned(), cover=cover, interpolation="bilinear")
    out = compose(batch)
    a, b, c, d, e, f = (part[:, None, None] for part in out["transform"].unbind(1))
    east, north = a * (columns + 0.5) + b * (rows + 0.5) + c, d * (columns + 0.5) + e * (rows + 0.5) + f
    column, row = (east - 500000) / 10 - 0.5, (6000000 - north) / 10 - 0.5
    inner = (column > 0.5) & (column < 50.5) & (row > 0.5) & (row < 38.5)
    assert inner.float().mean() > 0.8
    assert (out["image"][:, 0] - column).abs()[inner].max() < 1e-2
    assert (out["image"][:, 1] - row).abs()[inner].max() < 1e-2
    matrix = compose.plan(batch).matrix
    corners = torch.tensor([[19.5, 14.5, 1], [31.5, 14.5, 1], [31.5, 24.5, 1], [19.5, 24.5, 1]], dtype=torch.float64)
    moved = (matrix[:, None] @ corners[..., None])[..., :2, 0] + 0.5
    limit = torch.tensor((52.0, 40.0), dtype=torch.float64)
    for box, corner in zip(out["bbox_xyxy"], moved, strict=True):
        low, high = corner.amin(0).clamp_min(0).minimum(limit), corner.amax(0).clamp_min(0).minimum(limit)
        torch.testing.assert_close(box[0].double(), torch.cat((low, high)), rtol=0, atol=1e-3)


@pytest.mark.parametrize("cover", ["zoom", "reflect"])
def test_a_plan_replays_and_a_sample_depends_on_itself_alone(cover: Any) -> None:
    compose = Compose(turned(), cover=cover, executor="torch")
    batch = tiles()
    whole = compose(batch)
    back = Plan.from_dict(json.loads(json.dumps(compose.plan(batch).to_dict())))
    assert torch.equal(compose.apply(batch, back)["image"], whole["image"])
    part = compose({name: value[7:9] for name, value in batch.items()})
    for name in ("image", "valid", "mask"):
        assert torch.equal(part[name], whole[name][7:9])


@pytest.mark.parametrize("cover", ["zoom", "reflect"])
def test_nothing_is_done_when_nothing_is_augmented(cover: Any) -> None:
    batch = tiles()
    compose = Compose(turned(), cover=cover, size=64, out_units="dn").eval()
    out = compose(batch)
    assert float(out["valid"].float().mean()) == pytest.approx(40 * 52 / 64**2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3)])
@pytest.mark.parametrize("cover", ["zoom", "reflect"])
def test_images_of_hardly_a_pixel(cover: Any, shape: tuple[int, int]) -> None:
    out = Compose(turned(), cover=cover)(tiles(*shape))
    assert out["image"].isfinite().all()
    assert out["image"].shape[-2:] == shape


def test_dates_are_covered_together() -> None:
    batch = tiles()
    batch["image"] = torch.stack((batch["image"], batch["image"] + 1), 1)
    for cover in ("zoom", "reflect"):
        out = Compose(turned(), cover=cover)(batch)  # type: ignore[arg-type]
        assert out["valid"].all()
        torch.testing.assert_close(out["image"][:, 1], out["image"][:, 0] + 1, rtol=0, atol=1e-2)


def test_it_can_be_written_in_a_recipe() -> None:
    content = {"cover": "reflect", "operations": [{"RandomRotation": {"degrees": 20, "p": 1.0}}]}
    recipe = load_recipe(content)
    assert recipe.compose().cover == "reflect"
    assert recipe.compose(cover="leave").cover == "leave"
    assert load_recipe(recipe.resolved()) == recipe
    with pytest.raises(ConfigurationError, match="cover"):
        load_recipe({**content, "cover": "stretch"})
    with pytest.raises(ConfigurationError, match="cover='stretch' is not 'leave', 'zoom' or 'reflect'"):
        Compose([], cover="stretch")  # type: ignore[arg-type]


def moves_of(recipe: Recipe) -> list[dict[str, dict[str, Any]]]:
    """What of a recipe, also within its policies, turns and scales."""
    found = []
    for spec in recipe.specs:
        within = [each for each in spec.arguments.get("operations", ()) if "RandomAffine" in each]
        if within:
            found.append({spec.name: {**spec.arguments, "operations": within}})
        elif spec.name == "RandomAffine":
            found.append({spec.name: spec.arguments})
    return found


@pytest.mark.parametrize("name", preset_names())
def test_chips_under_presets_have_no_corners(name: str) -> None:
    recipe = load_recipe(name)
    moves = moves_of(recipe)
    assert (recipe.cover == "zoom") == bool(moves)
    geometry = {"cover": recipe.cover, "operations": moves}
    assert load_recipe(geometry).compose()(tiles(64, 64))["valid"].all()


def test_a_crop_out_of_a_turned_tile_is_covered_by_what_surrounds_it() -> None:
    """The crop lies inside of the tile, so most of its footprint does: it is hardly enlarged."""
    batch = tiles(64, 64)
    crop = [RandomRotation(30, p=1.0), RandomCrop(24)]
    plan = Compose(crop, cover="zoom").plan(batch)
    assert plan.size == Size(24, 24)
    assert float(growth(plan.matrix).max()) < 1 + 1e-6
    assert Compose([*crop, Resize(48)], cover="zoom")(batch)["valid"].all()


def test_what_is_run_on_its_own_must_not_stand_before_a_mirrored_move() -> None:
    import kornia.augmentation as K

    blur = K.RandomGaussianBlur((3, 3), (0.5, 1.0), p=1.0)
    with pytest.raises(ConfigurationError, match="mirrors the tile once") as error:
        Compose([blur, RandomRotation(20)], cover="reflect")
    assert error.value.argument == "cover"
    assert Compose([RandomRotation(20, p=1.0), blur], cover="reflect")(tiles())["valid"].all()
    assert Compose([blur, RandomRotation(20, p=1.0)], cover="zoom")(tiles())["valid"].all()


def test_what_a_mirrored_tile_is_told_of_its_place_is_of_the_tile_itself() -> None:
    """Samples that nothing moves: noise on the pixels of coarse bands, and stripes, lie where they lie without it."""
    radiometry = [RandomSensorNoise((5.0, 5.0), p=1.0), RandomStriping(p=1.0)]
    operations = [RandomRotation(30, p=0.5), *radiometry]
    place = torch.tensor((10.0, 0.0, 500030.0, 0.0, -10.0, 6000010.0), dtype=torch.float64)  # in a pixel of 60 m
    batch = {
        "image": torch.full((MANY, 13, 40, 40), 3000.0),
        "transform": place.expand(MANY, 6),
        "key": sample_keys(3, range(MANY)),
    }
    sensor = get_sensor("sentinel-2-l1c")
    still = Compose(operations, sensor=sensor).plan(batch).drawn[0].params["batch_prob"] == 0
    assert 10 < still.sum() < MANY - 10
    plain, mirrored = (
        Compose(operations, sensor=sensor, cover=cover, executor="torch")(batch)["image"][still]  # type: ignore[arg-type]
        for cover in ("leave", "reflect")
    )
    assert float(plain.std()) > 0.005
    torch.testing.assert_close(mirrored, plain, rtol=0, atol=1e-6)

"""Sharp interpolation: what it keeps of noise and detail, what it never does, and that executors agree."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from geoaug import Compose, get_sensor, sample_keys
from geoaug.augment import RandomAffine, RandomBandShift, RandomD4, RandomRotation, Resize
from geoaug.augment.kernels.two_pass import PHASES, resampled, taps_for, taps_of_width, two_passes, weights_of_width
from geoaug.augment.planning import matrices
from geoaug.augment.planning.matrices import Size
from geoaug.errors import ConfigurationError
from tests.augment.test_executors import COMPILED, agree

SIZE = 48


def keyed(image: Tensor, **more: Any) -> dict[str, Any]:
    return {"image": image, "key": sample_keys(4, range(len(image))), **more}


def noise(batch: int = 4, side: int = 128) -> Tensor:
    """Noise as of a detector behind optics: white, seen through a transfer of .3 at the Nyquist frequency."""
    white = torch.randn(batch, 1, side, side, generator=torch.Generator().manual_seed(5))
    frequency = torch.fft.fftfreq(side)
    transfer = torch.exp(np.log(0.3) * 4 * (frequency[:, None] ** 2 + frequency**2))
    return torch.fft.ifft2(torch.fft.fft2(white) * transfer).real.float()


def turned(image: Tensor, degrees: float, interpolation: Any) -> Tensor:
    return Compose([RandomRotation((degrees, degrees), p=1.0)], interpolation=interpolation)(keyed(image))["image"]


def inner(image: Tensor) -> Tensor:
    side = image.shape[-1]
    return image[..., side // 4 : -side // 4, side // 4 : -side // 4]


def laplacian(image: Tensor) -> float:
    return float(np.std([ndimage.laplace(each)[2:-2, 2:-2] for each in inner(image)[:, 0].numpy()]))


@pytest.mark.parametrize("degrees", [3.0, 15.0, 30.0, 45.0, 75.0, 100.0, 197.0])
def test_noise_and_detail_are_kept(degrees: float) -> None:
    image = noise()
    sharp, linear = turned(image, degrees, "sharp"), turned(image, degrees, "bilinear")
    assert float(inner(sharp).std() / inner(image).std()) == pytest.approx(1, abs=0.05)
    assert 0.85 < laplacian(sharp) / laplacian(image) < 1.1
    assert laplacian(linear) / laplacian(image) < 0.7


@pytest.mark.parametrize("degrees", [10.0, 33.0, 80.0, 100.0, 170.0, 260.0])
def test_pixels_are_where_scipys_spline_has_them(degrees: float) -> None:
    image = ndimage.gaussian_filter(noise(1, 96)[0, 0].numpy(), 1.0)
    compose = Compose([RandomRotation((degrees, degrees), p=1.0)])
    batch = keyed(torch.from_numpy(image)[None, None])
    back = np.linalg.inv(compose.plan(batch).matrix[0].numpy())
    swap = back[[1, 0, 2]][:, [1, 0, 2]]
    expected = ndimage.affine_transform(image.astype(float), swap[:2, :2], swap[:2, 2], order=5, mode="mirror")
    out = compose(batch)
    valid = out["valid"][0, 0].numpy()
    difference = np.abs(out["image"][0, 0].numpy() - expected) / image.std()
    assert difference[24:-24, 24:-24].max() < 0.06
    assert difference[valid].max() < 0.15


def test_constants_and_slopes_come_out_as_they_are() -> None:
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    image = torch.stack((torch.full((64, 64), 0.3), columns, rows)).expand(6, 3, 64, 64)
    compose = Compose([RandomAffine(180, (0.05, 0.05), (0.7, 1.4), 8, p=1.0)])
    plan = compose.plan(keyed(image))
    out = compose.apply(keyed(image), plan)
    back = matrices.inverse(plan.matrix)
    at = torch.stack((columns, rows, torch.ones(64, 64))).double()
    x, y = torch.einsum("bij,jhw->ibhw", back, at)[:2]
    here = (x > 12) & (x < 51) & (y > 12) & (y < 51)
    assert here.float().mean() > 0.2
    assert (out["image"][:, 0][out["valid"][:, 0]] - 0.3).abs().max() < 1e-6
    # Places have steps of a 512th of a pixel in both passes.
    assert (out["image"][:, 1] - x)[here].abs().max() < 3e-3
    assert (out["image"][:, 2] - y)[here].abs().max() < 3e-3


def test_no_value_is_beyond_those_of_the_band() -> None:
    image = torch.full((1, 1, 64, 64), 0.02)
    image[..., 20:40, 25:50] = 0.9
    out = turned(image, 17.0, "sharp")
    held = inner(out)
    assert held.min() >= image.min()
    assert held.max() <= image.max()
    free = turned(image, 17.0, "bicubic")
    assert float(inner(free).min()) < 0.0


def test_an_edge_overshoots_by_a_tenth_of_its_height_at_most() -> None:
    image = torch.full((1, 1, 96, 96), 0.4)
    image[..., 48:] = 0.6
    image[..., 0, 0], image[..., 0, 1] = 0.0, 1.0
    held = inner(turned(image, 20.0, "sharp"))
    assert 0.4 - 0.03 < float(held.min()) < 0.4
    assert 0.6 < float(held.max()) < 0.6 + 0.03


def test_exact_plans_copy() -> None:
    image = torch.randint(0, 60000, (8, 3, 31, 31), generator=torch.Generator().manual_seed(1)).to(torch.uint16)
    sharp = Compose([RandomD4()], out_dtype=None, out_units="dn")(keyed(image))["image"]
    linear = Compose([RandomD4()], out_dtype=None, out_units="dn", interpolation="bilinear")(keyed(image))["image"]
    assert torch.equal(sharp.view(torch.int16), linear.view(torch.int16))


def test_validity_is_that_of_linear_interpolation_and_so_are_pixels_beside_invalid_ones() -> None:
    image = noise(3, SIZE)
    valid = torch.ones(3, 1, SIZE, SIZE, dtype=torch.bool)
    valid[:, :, 20:24, 18:30] = False
    image[~valid.expand_as(image)] = 1e6
    operations = [RandomRotation((25, 25), p=1.0)]
    sharp = Compose(operations)(keyed(image, valid=valid))
    linear = Compose(operations, interpolation="bilinear")(keyed(image, valid=valid))
    assert torch.equal(sharp["valid"], linear["valid"])
    same = (sharp["image"] == linear["image"]) & sharp["valid"]
    # As far as sixteen pixels weigh: nearly four on each side.
    missing = Compose(operations, interpolation="nearest")(keyed((~valid).float()))["image"] > 0
    near = torch.nn.functional.max_pool2d(missing.float(), 5, 1, 2) > 0
    far = torch.nn.functional.max_pool2d(missing.float(), 19, 1, 9) == 0
    assert same[near & sharp["valid"]].all()
    assert not same[far & sharp["valid"]].any()
    assert sharp["image"].abs().max() < 100


def test_what_shrinks_does_not_alias() -> None:
    side = 96
    wave = torch.cos(torch.arange(side) * np.pi * 0.9).expand(1, 1, side, side)
    for size in (64, 48, 30, 12):
        out = Compose([Resize(size)])(keyed(wave.contiguous()))["image"]
        assert float(inner(out).abs().max()) < 0.12, size
    slow = torch.cos(torch.arange(side) * np.pi * 0.15).expand(1, 1, side, side)
    out = Compose([Resize(48)])(keyed(slow.contiguous()))["image"]
    assert float(inner(out).abs().max()) > 0.95


def test_weights() -> None:
    for width in (8, 9, 12, 13, 24, 40, 68):
        taps = taps_of_width(width)
        weights = weights_of_width(width, taps).astype(np.float64)
        places = np.arange(taps) - (taps // 2 - 1)
        assert np.abs(weights.sum(1) - 1).max() < 1e-6
        assert np.abs((weights * places).sum(1) - np.arange(PHASES) / PHASES).max() < 1e-5
        # More room changes nothing, and the weights of a place are those of its mirror image.
        wider = weights_of_width(width, taps + 8)
        assert np.abs(wider[:, 4:-4] - weights).max() < 1e-7
        assert np.abs(weights[1:, ::-1] - weights[:0:-1]).max() < 1e-6
    assert np.array_equal(weights_of_width(8, 8)[0], np.eye(8)[3])
    assert [taps_for(most) for most in (1, 2, 3, 8)] == [8, 16, 24, 48]


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("apart", [True, False])
def test_bands_come_out_plane_by_plane(bands: int, apart: bool) -> None:
    """A kernel reads them by their places in memory, which torch leaves open where there is one band."""
    size = Size(20, 24)
    matrix = matrices.about_centre(matrices.rotation(torch.tensor([8.0, 70.0], dtype=torch.float64)), size)
    shift = torch.rand(2, bands, 2) if apart else None
    passes = two_passes(matrix, torch.ones(2, 2, dtype=torch.long), shift)
    valid = torch.ones(2, 1, 20, 24, dtype=torch.bool)
    out = resampled(torch.rand(2, bands, *size), valid, passes, Size(16, 18), taps_for(1))
    assert out.whole is not None
    for planes in (out.values, out.whole):
        count = planes.shape[1]
        assert planes.stride() == (count * 16 * 18, 16 * 18, 18, 1)


@pytest.mark.parametrize("executor", COMPILED)
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("kind", ["turn", "shrink", "shift", "radar", "resize"])
def test_executors_agree(kind: str, whole: bool, executor: str) -> None:
    generator = torch.Generator().manual_seed(7)
    radar = kind == "radar"
    sensor = get_sensor("sentinel-1-db") if radar else get_sensor("sentinel-2-l1c").select("B02,B03,B08,B11")
    image = torch.rand(4, len(sensor.bands), 40, 52, generator=generator)
    stored = image * 20 - 25 if radar else (image * 5000 + 1).to(torch.uint16)
    batch = keyed(stored, mask=torch.randint(0, 5, (4, 40, 52), generator=generator))
    if not whole:
        batch["valid"] = torch.rand(4, 1, 40, 52, generator=generator) > 0.01
    operations = {
        "turn": [RandomD4(), RandomRotation(180, p=0.8)],
        "shrink": [RandomAffine(180, (0.1, 0.1), (0.25, 1.4), 10, p=1.0)],
        "shift": [RandomRotation(90, p=0.7), RandomBandShift(p=0.8)],
        "radar": [RandomRotation(180, p=1.0)],
        "resize": [Resize((90, 21))],
    }[kind]
    agree(Compose(operations, sensor=sensor), batch, executor)


@pytest.mark.parametrize("executor", ["torch", *COMPILED])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (3, 5), (9, 300)])
def test_small_and_long_images(shape: tuple[int, int], executor: str) -> None:
    image = torch.rand(2, 2, *shape, generator=torch.Generator().manual_seed(3))
    compose = Compose([RandomRotation((20, 20), p=1.0)], size=12, executor="torch")
    batch = keyed(image)
    assert torch.isfinite(compose(batch)["image"]).all()
    if executor != "torch":
        agree(compose, batch, executor)


def test_interpolation_in_a_recipe(tmp_path: Any) -> None:
    from geoaug import load_recipe

    path = tmp_path / "mine.yaml"
    path.write_text("interpolation: bilinear\noperations:\n  - RandomRotation: {degrees: 20}\n")
    recipe = load_recipe(path)
    assert recipe.compose().interpolation == "bilinear"
    assert recipe.resolved()["interpolation"] == "bilinear"
    assert recipe.compose(interpolation="sharp").interpolation == "sharp"
    path.write_text("interpolation: linear\noperations:\n  - RandomD4\n")
    with pytest.raises(ConfigurationError, match="interpolation"):
        load_recipe(path)

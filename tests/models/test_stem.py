"""Adapted stems against closed forms, against timm, and against what a convolution really answers."""

import math

import pytest
import torch
from timm.models import adapt_input_conv
from torch import Tensor

from geoaug import get_sensor
from geoaug.errors import ConfigurationError
from geoaug.models import IMAGENET_STATISTICS, STEMS, BandStatistics, adapt_stem, measure_statistics
from geoaug.models.networks.bands import matching_bands
from geoaug.models.networks.stem import response_variance

SENTINEL = get_sensor("sentinel-2-l2a")
RGB = SENTINEL.select("B04,B03,B02")


@pytest.fixture
def weight() -> Tensor:
    # Smooth filters with a sum, as a trained first layer has, and some without.
    filters = torch.randn(16, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.avg_pool2d(filters, 3, 1, 1) + 0.05


def white_noise(statistics: BandStatistics, seed: int = 1) -> Tensor:
    """Independent normal pixels with the mean and covariance of the statistics, (64, n, 64, 64)."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.linalg.cholesky(statistics.matrix(correlated=True)).float()
    noise = torch.randn(64, len(statistics), 64, 64, generator=generator)
    return torch.einsum("nm,bmhw->bnhw", root, noise) + torch.tensor(statistics.mean)[:, None, None]


def answers(weight: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    out = torch.nn.functional.conv2d(image, weight).movedim(1, 0).flatten(1)
    return out.mean(1), out.var(1)


def correlated(mean: list[float], std: list[float], rho: float) -> BandStatistics:
    rows = [[a * b * (1.0 if i == j else rho) for j, b in enumerate(std)] for i, a in enumerate(std)]
    return BandStatistics(tuple(mean), tuple(std), tuple(map(tuple, rows)))


@pytest.mark.parametrize("stem", STEMS)
def test_the_first_answer_keeps_mean_and_variance_on_the_given_statistics(weight: Tensor, stem: str) -> None:
    bands = SENTINEL.select("B02,B03,B04,B08,B11")
    given = BandStatistics((0.5, -0.2, 0.1, 1.0, 0.0), (0.5, 1.0, 2.0, 0.7, 1.3))
    source = BandStatistics((0.1, 0.0, -0.1), (1.2, 1.0, 0.8))
    adapted = adapt_stem(weight, bands, stem=stem, statistics=given, weights_statistics=source)
    before, after = answers(weight, white_noise(source)), answers(adapted.weight, white_noise(given))
    torch.testing.assert_close(after[1], before[1], rtol=0.04, atol=1e-3)
    torch.testing.assert_close(after[0] - adapted.shift, before[0], rtol=0, atol=0.05 * float(before[1].mean().sqrt()))


@pytest.mark.parametrize("stem", STEMS)
def test_correlation_of_bands_counts_where_both_sides_know_it(weight: Tensor, stem: str) -> None:
    given = correlated([0.0] * 6, [1.0] * 6, 0.9)
    adapted = adapt_stem(weight, SENTINEL.select("B02,B03,B04,B08,B11,B12"), stem=stem, statistics=given)
    before = answers(weight, white_noise(IMAGENET_STATISTICS))[1]
    torch.testing.assert_close(answers(adapted.weight, white_noise(given))[1], before, rtol=0.05, atol=1e-3)
    # Six bands that say the same are louder together than six that say different things.
    apart = adapt_stem(
        weight, SENTINEL.select("B02,B03,B04,B08,B11,B12"), stem="mean", statistics=BandStatistics.unit(6)
    )
    if stem == "mean":
        assert float(adapted.weight.abs().sum()) < float(apart.weight.abs().sum())


def test_the_variance_of_smooth_images_is_the_closed_one(weight: Tensor) -> None:
    # A first-order autoregression along both axes has exactly the correlation that is assumed.
    neighbour, generator = 0.7, torch.Generator().manual_seed(3)
    field = torch.randn(96, 3, 80, 80, generator=generator, dtype=torch.float64)
    for axis in (2, 3):
        parts = [field.select(axis, 0)]
        for place in range(1, 80):
            parts.append(neighbour * parts[-1] + math.sqrt(1 - neighbour**2) * field.select(axis, place))
        field = torch.stack(parts, axis)
    found = answers(weight.double(), field)[1]
    wanted = response_variance(weight, BandStatistics((0.0,) * 3, (1.0,) * 3, neighbour=neighbour))
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=1e-3)
    measured = measure_statistics([field[:32].float(), {"image": field[32:].float()}])
    assert measured.neighbour == pytest.approx((neighbour,) * 3, abs=0.01)
    assert measured.std == pytest.approx((1.0, 1.0, 1.0), abs=0.03)


def test_three_bands_take_the_weights_as_they_are(weight: Tensor) -> None:
    for statistics in (None, IMAGENET_STATISTICS):
        adapted = adapt_stem(weight, RGB, statistics=statistics)
        torch.testing.assert_close(adapted.weight, weight, rtol=1e-6, atol=0)
        assert float(adapted.shift.abs().max()) < 1e-6
    turned = adapt_stem(weight, SENTINEL.select("B02,B03,B04"))
    torch.testing.assert_close(turned.weight, weight.flip(1), rtol=1e-6, atol=0)


def test_copying_starts_other_bands_at_zero(weight: Tensor) -> None:
    adapted = adapt_stem(weight, SENTINEL).weight
    assert adapted.shape[1] == 12
    torch.testing.assert_close(adapted[:, [3, 2, 1]], weight)
    assert not adapted[:, [0, *range(4, 12)]].any()
    # Without blue, what is left answers as strongly as all three did.
    partial = adapt_stem(weight, SENTINEL.select("B8A,B04,B03")).weight
    scale = (weight.square().sum((1, 2, 3)) / weight[:, :2].square().sum((1, 2, 3))).sqrt()
    torch.testing.assert_close(partial[:, 1:], weight[:, :2] * scale[:, None, None, None])
    assert not partial[:, 0].any()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 13])
def test_repeating_is_timms_up_to_the_scale_of_each_filter(weight: Tensor, count: int) -> None:
    ours, theirs = adapt_stem(weight, count, stem="repeat").weight, weight
    if count != 3:
        # timm sums the colours for one band; ours repeats the first, so compare what repeating means.
        theirs = adapt_input_conv(count, weight) if count > 1 else weight[:, :1]
    shape = torch.nn.functional.normalize(ours.flatten(1), dim=1)
    torch.testing.assert_close(shape, torch.nn.functional.normalize(theirs.flatten(1), dim=1))
    power = weight.square().sum((1, 2, 3))
    torch.testing.assert_close(ours.square().sum((1, 2, 3)), power)


def test_the_mean_stem_is_the_closed_form(weight: Tensor) -> None:
    adapted = adapt_stem(weight, 5, stem="mean").weight
    mean = weight.mean(1)
    scale = (weight.square().sum((1, 2, 3)) / (5 * mean.square().sum((1, 2)))).sqrt()
    torch.testing.assert_close(adapted, (mean * scale[:, None, None])[:, None].expand(-1, 5, -1, -1))


def test_the_spectral_stem_interpolates_and_fades_to_brightness(weight: Tensor) -> None:
    bands = SENTINEL.select("B02,B03,B04,B05,B08,B12")
    adapted = adapt_stem(weight, bands, stem="spectral").weight
    scale = adapted[:, 2] / weight[:, 0]
    red, grey = weight[:, 0], weight.mean(1)
    for place, wavelength in ((3, 704.1), (4, 832.8), (5, 2202.4)):
        share = math.exp(-(wavelength - 664.6) / 100)
        torch.testing.assert_close(adapted[:, place] / scale, share * red + (1 - share) * grey, rtol=1e-4, atol=1e-5)
    between = adapt_stem(weight, get_sensor("landsat-8-l1").select("B2,B3,B4,B8"), stem="spectral").weight
    part = (589.5 - 561.41) / (654.59 - 561.41)
    mixed = torch.lerp(weight[:, 1], weight[:, 0], part)
    torch.testing.assert_close(between[:, 3] / (between[:, 2] / weight[:, 0]), mixed, rtol=1e-4, atol=1e-5)


def test_random_stems_answer_as_loudly_and_follow_their_generator(weight: Tensor) -> None:
    first, again = (
        adapt_stem(weight, 4, stem="random", generator=torch.Generator().manual_seed(5)).weight for _ in range(2)
    )
    assert torch.equal(first, again)
    torch.testing.assert_close(first.square().sum((1, 2, 3)), weight.square().sum((1, 2, 3)))


def test_weights_of_thirteen_bands_go_to_fewer_by_name_and_to_other_sensors_by_wavelength() -> None:
    weight = torch.randn(4, 13, 3, 3)
    source = get_sensor("sentinel-2-l1c")
    adapted = adapt_stem(weight, source.select("B12,B02"), weights_bands=source).weight
    ratio = adapted / weight[:, [12, 1]]
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio))
    assert matching_bands(source, SENTINEL) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12]
    # B5 is near infrared on Landsat and red edge on Sentinel-2.
    landsat = get_sensor("landsat-8-l2")
    assert matching_bands(source, landsat) == [0, 1, 2, 3, 8, 11, 12]
    assert matching_bands(get_sensor("rgb"), landsat.select("B4,B5,B6")) == [0, None, None]


def test_names_alone_are_matched_by_name(weight: Tensor) -> None:
    adapted = adapt_stem(weight, ["height", "blue", "R"]).weight
    assert not adapted[:, 0].any()
    ratio = adapted[:, 1:] / weight[:, [2, 0]]
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio), rtol=1e-4, atol=1e-5)


def test_a_filter_that_answers_nothing_stays_finite(weight: Tensor) -> None:
    weight = weight.clone()
    weight[3] = 0
    weight[4] = torch.tensor([1.0, -1.0, 0.0])[:, None, None]
    adapted = adapt_stem(weight, 5, stem="mean").weight
    assert bool(adapted.isfinite().all())
    assert not adapted[3].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bands": 5}, "name the bands"),
        ({"bands": get_sensor("sentinel-1-db")}, "stem='mean'"),
        ({"bands": 4, "stem": "clone"}, "one of copy"),
        (
            {"bands": 4, "weights_bands": ["a", "b"], "stem": "mean"},
            "the weights have 3 bands, and weights_bands names 2",
        ),
        (
            {"bands": 4, "stem": "mean", "statistics": BandStatistics.unit(3)},
            "statistics of 3 bands for a network of 4",
        ),
    ],
)
def test_what_cannot_be_done_is_said(weight: Tensor, arguments: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        adapt_stem(weight, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ((0.0,), (1.0, 1.0)),
        ((0.0,), (0.0,)),
        ((0.0, 0.0), (1.0, 1.0), ((1.0, 0.5), (0.2, 1.0))),
        ((0.0, 0.0), (1.0, 1.0), ((1.0, 2.0), (2.0, 1.0))),
        ((0.0, 0.0), (1.0, 2.0), ((1.0, 0.0), (0.0, 1.0))),
        ((0.0,), (1.0,), None, 1.0),
    ],
)
def test_statistics_that_cannot_be_are_refused(arguments: tuple) -> None:
    with pytest.raises(ConfigurationError):
        BandStatistics(*arguments)


def test_statistics_are_measured_on_valid_pixels_and_follow_a_normalisation() -> None:
    image = torch.randn(8, 3, 20, 20, dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0])[:, None, None] + 1000.0
    image[:, 1] += image[:, 0]
    valid = torch.rand(8, 1, 20, 20) > 0.3
    known = image.movedim(1, 0)[:, valid[:, 0]]
    holes = torch.where(valid, image, torch.nan)
    found = measure_statistics([{"image": holes[:4], "valid": valid[:4]}, {"image": holes[4:]}])
    torch.testing.assert_close(torch.tensor(found.mean).double(), known.mean(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(found.matrix(correlated=True), torch.cov(known, correction=0), rtol=1e-4, atol=1e-4)
    unit = found.normalized()
    assert unit.mean == pytest.approx((0, 0, 0), abs=1e-9)
    torch.testing.assert_close(unit.matrix(correlated=True), torch.corrcoef(known), rtol=1e-4, atol=1e-4)
    assert found.select([2, 0]).std == (found.std[2], found.std[0])
    with pytest.raises(ConfigurationError, match="number 2"):
        measure_statistics([torch.stack((torch.rand(4, 4), torch.ones(4, 4)))[None]])

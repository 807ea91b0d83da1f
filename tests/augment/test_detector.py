"""Stripes, lost lines, ceilings, steps and the two-term noise, by their statistics."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from geoaug import Compose, get_sensor
from geoaug.augment import (
    RandomLineDropout,
    RandomQuantization,
    RandomSaturation,
    RandomSensorNoise,
    RandomStriping,
)
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys
from geoaug.sensors import generic_sensor

PLAIN = generic_sensor(3, 1.0)


def run(operation: torch.nn.Module, image: Tensor, sensor: object = PLAIN) -> Tensor:
    key = sample_keys(0, range(len(image)))
    return Compose([operation], sensor=sensor)({"image": image, "key": key})["image"]  # type: ignore[arg-type, no-any-return]


@pytest.mark.parametrize("axis", ["columns", "rows"])
def test_stripes_are_gains_of_lines_of_bands(axis: str) -> None:
    out = run(RandomStriping((0.004, 0.004), axis, p=1.0), torch.full((20, 3, 300, 300), 0.5)) / 0.5
    along = 2 if axis == "columns" else 3
    assert float((out.amax(along) - out.amin(along)).max()) < 1e-6
    gains = out.mean(along).double() - 1
    assert float(gains.std()) == pytest.approx(0.004, rel=0.03)
    correlation = np.corrcoef(gains.reshape(60, -1).numpy()) - np.eye(60)
    assert np.abs(correlation).max() < 6 / np.sqrt(300)
    double = run(RandomStriping((0.004, 0.004), axis, p=1.0), torch.full((20, 3, 300, 300), 1.0))
    assert torch.allclose(double, out, atol=1e-6)  # in proportion to the signal


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_lines_are_lost_whole_and_as_often_as_said(axis: str) -> None:
    out = run(RandomLineDropout((0.05, 0.05), fill=0.9, axis=axis, p=1.0), torch.full((30, 3, 200, 200), 0.2))
    across = 3 if axis == "rows" else 2
    lost = (out - 0.9).abs() < 1e-6
    assert torch.equal(lost.any(across), lost.all(across))
    assert (lost | ((out - 0.2).abs() < 1e-6)).all()
    lines = lost.all(across)
    assert stats.binomtest(int(lines.sum()), lines.numel(), 0.05).pvalue > 1e-3
    assert not torch.equal(lines[:, 0], lines[:, 1])


def test_a_ceiling_cuts_what_is_above_and_nothing_else() -> None:
    image = torch.rand(50, 3, 8, 8) * 2
    out = run(RandomSaturation((0.6, 1.2), p=1.0), image)
    level = out.flatten(1).amax(1)
    assert (level <= 1.2).all()
    assert (level >= 0.59).all()
    cut = image > level[:, None, None, None]
    assert torch.equal(out[~cut], image[~cut])
    assert torch.allclose(out[cut], level[:, None, None, None].expand_as(out)[cut])
    weak = run(RandomSaturation((0.6, 0.6), p=1.0, strength=0.5), image)
    assert float(weak.max()) == pytest.approx(1.2)
    assert torch.equal(run(RandomSaturation(p=1.0, strength=0.0), image), image)


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_steps_are_those_of_the_depth(bits: int) -> None:
    image = torch.rand(4, 3, 64, 64) * 1.5 - 0.2
    out = run(RandomQuantization((bits, bits), p=1.0), image).double()
    step = 1 / (2**bits - 1)
    assert ((out / step) - (out / step).round()).abs().max() < 1e-3 * 2 ** max(0, bits - 8)
    assert (out - image).abs().max() <= step / 2 + 1e-6
    error = (out - image).flatten()
    assert float(error.var()) == pytest.approx(step**2 / 12, rel=0.05)


@pytest.mark.parametrize("dn", [1200.0, 3000.0, 9000.0])
def test_two_term_noise_has_its_variance_in_digital_numbers(dn: float) -> None:
    sensor = get_sensor("sentinel-2-l2a").for_baseline("04.00").select("B02,B03,B04")
    image = torch.full((2, 3, 200, 200), dn)
    key = sample_keys(1, range(2))
    alpha, beta = [4.0, 8.0, 0.0], [0.02, 0.0, 0.05]
    stated = dataclasses.replace(
        sensor,
        bands=tuple(
            dataclasses.replace(band, noise_alpha=a, noise_beta=b)
            for band, a, b in zip(sensor.bands, alpha, beta, strict=True)
        ),
    )
    for operation, described in (
        (RandomSensorNoise((1, 1), alpha=alpha, beta=beta, p=1.0), sensor),
        (RandomSensorNoise((1, 1), p=1.0), stated),
    ):
        out = Compose([operation], sensor=described, out_units="dn")({"image": image, "key": key})["image"].double()
        for band in range(3):
            expected = alpha[band] ** 2 + beta[band] * dn
            count = 2 * 200 * 200
            statistic = float((out[:, band] - dn).square().sum()) / expected
            assert stats.chi2(count).cdf(statistic) == pytest.approx(0.5, abs=0.4999)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandomSensorNoise(alpha=1.0), "alpha and beta belong together"),
        (lambda: RandomSensorNoise(snr=100, alpha=1.0, beta=0.1), "two models of the noise"),
        (lambda: RandomSensorNoise(alpha=[-1.0], beta=[0.0]), "at least 0"),
        (lambda: Compose([RandomSensorNoise(alpha=[1, 2], beta=[1, 2])], sensor=PLAIN), "2 numbers for the 3 bands"),
        (lambda: RandomStriping(axis="across"), "axis='across'"),  # type: ignore[arg-type]
        (lambda: RandomQuantization((3.5, 5)), "whole numbers"),  # type: ignore[arg-type]
        (lambda: RandomQuantization(full_scale=0), "full_scale=0"),
        (lambda: RandomLineDropout((0.5, 1.5)), "share"),
    ],
)
def test_mistakes_are_named(build: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()  # type: ignore[operator]

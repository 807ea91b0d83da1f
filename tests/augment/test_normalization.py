"""Normalising by measured statistics: bands by name, in the units of the output, and never by what does not fit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geoaug import Compose, get_sensor, load_recipe
from geoaug.errors import ConfigurationError
from geoaug.sensors import Sensor
from geoaug.statistics import BandStatistics, Statistics

S2 = get_sensor("sentinel-2-l2a").select(["B04", "B03", "B08"])


def measured(image: torch.Tensor, sensor: Sensor) -> Statistics:
    pixels = image.double().movedim(1, 0).flatten(1)
    bands = tuple(
        BandStatistics(band.name, float(of.mean()), float(of.std(correction=0)), 0, 1, band.quantification, band.offset)
        for band, of in zip(sensor.bands, pixels, strict=True)
    )
    return Statistics(bands, pixels.shape[1], 1, sensor.name, str(sensor.quantity))


@pytest.fixture
def image() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(1000, 4000, (4, 3, 16, 16)).astype(np.uint16))


@pytest.mark.parametrize("units", ["reflectance", "dn"])
@pytest.mark.parametrize("as_file", [False, True])
def test_what_was_measured_comes_out_with_mean_0_and_std_1(
    image: torch.Tensor, units: str, as_file: bool, tmp_path: Path
) -> None:
    statistics = measured(image, S2)
    statistics.save(tmp_path / "stats.yaml")
    by = tmp_path / "stats.yaml" if as_file else statistics
    out = Compose([], sensor=S2, normalize=by, out_units=units).eval()({"image": image})["image"]  # type: ignore[arg-type]
    pixels = out.double().movedim(1, 0).flatten(1)
    torch.testing.assert_close(pixels.mean(1), torch.zeros(3).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(pixels.std(1, correction=0), torch.ones(3).double(), atol=1e-4, rtol=0)


def test_bands_are_found_by_name_in_any_order(image: torch.Tensor) -> None:
    statistics = measured(image, S2)
    turned = S2.select(["B08", "b4"])
    out = Compose([], sensor=turned, normalize=statistics).eval()({"image": image[:, [2, 0]]})["image"]
    expected = Compose([], sensor=S2, normalize=statistics).eval()({"image": image})["image"]
    torch.testing.assert_close(out, expected[:, [2, 0]])


def test_what_does_not_fit_is_refused(image: torch.Tensor) -> None:
    statistics = measured(image, S2)
    with pytest.raises(ConfigurationError, match=r"no statistics of band 'B02'; there are those of B04 B03 B08"):
        Compose([], sensor=get_sensor("sentinel-2-l2a").select(["B02"]), normalize=statistics)
    with pytest.raises(ConfigurationError, match=r"band 'B04' is scaled as \(DN \+7\) / 10000, and its statistics"):
        Compose([], sensor=S2.with_scaling(offset=7.0), normalize=statistics)
    with pytest.raises(ConfigurationError, match="give the sensor"):
        Compose([], normalize=statistics)
    flat = replace(statistics, bands=tuple(replace(band, std=0.0) for band in statistics.bands))
    with pytest.raises(ConfigurationError, match="leave the band out"):
        Compose([], sensor=S2, normalize=flat)
    with pytest.raises(ConfigurationError, match="absent"):
        Compose([], sensor=S2, normalize="absent.yaml")


def test_radar_is_normalised_in_the_units_that_were_measured() -> None:
    decibels = get_sensor("sentinel-1-db")
    image = torch.randn(4, len(decibels), 16, 16) * 3 - 12
    statistics = measured(image, decibels)
    out = Compose([], sensor=decibels, normalize=statistics, out_units="db").eval()({"image": image})["image"]
    assert abs(float(out.mean())) < 1e-3
    with pytest.raises(ConfigurationError, match="out_units='db'"):
        Compose([], sensor=decibels, normalize=statistics)
    with pytest.raises(ConfigurationError, match="the statistics are of db"):
        Compose([], sensor=get_sensor("sentinel-1-power"), normalize=statistics)


def test_a_recipe_names_its_statistics_beside_it(image: torch.Tensor, tmp_path: Path) -> None:
    statistics = measured(image, S2)
    statistics.save(tmp_path / "train.yaml")
    (tmp_path / "mine.yaml").write_text("sensor: sentinel-2-l2a\nnormalize: train.yaml\noperations:\n  - RandomD4\n")
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert "normalize: train.yaml" in recipe.to_yaml()
    out = recipe.compose(sensor=S2).eval()({"image": image})["image"]
    torch.testing.assert_close(out, Compose([], sensor=S2, normalize=statistics).eval()({"image": image})["image"])
    plain = recipe.compose(sensor=S2, normalize=None).eval()({"image": image})["image"]
    assert float(plain.min()) > 0


def test_a_recipe_may_hold_the_numbers_themselves(image: torch.Tensor) -> None:
    by = {"mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0]}
    recipe = load_recipe({"normalize": by, "operations": []})
    assert recipe.resolved()["normalize"] == by
    out = recipe.compose(sensor=S2).eval()({"image": image})["image"]
    expected = Compose([], sensor=S2, normalize=(by["mean"], by["std"])).eval()({"image": image})["image"]
    torch.testing.assert_close(out, expected)
    with pytest.raises(ConfigurationError, match="every std above 0"):
        load_recipe({"normalize": {"mean": [0.0], "std": [0.0]}, "operations": []})
    with pytest.raises(ConfigurationError, match="a mean and a std for each band"):
        load_recipe({"normalize": {"mean": [0.0], "std": [1.0, 1.0]}, "operations": []})

"""What is done by numpy on the CPU is what torch does elsewhere."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import geoaug.rng.philox
from geoaug import get_sensor
from geoaug.augment.kernels import warp
from geoaug.augment.kernels.executors import executor_for
from geoaug.augment.physics import air
from geoaug.augment.physics.aerosols import Aerosol, aerosol_of
from geoaug.augment.physics.air import wavelengths_nm
from geoaug.augment.planning import matrices
from geoaug.augment.planning.matrices import Size
from geoaug.rng.draws import Draws
from geoaug.small_arrays import by_numpy, runs_by_numpy, several_by_numpy


class Elsewhere(Tensor):
    """A tensor that numpy is not asked to look at."""


def elsewhere(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Elsewhere)


def doubles(*shape: int, low: float = -1, high: float = 1) -> Tensor:
    return torch.empty(*shape, dtype=torch.float64).uniform_(low, high, generator=torch.Generator().manual_seed(3))


MATRICES = matrices.turned(doubles(9, low=-180, high=180), Size(40, 30), doubles(9, low=0.5, high=2))
WAVELENGTHS = wavelengths_nm(get_sensor("sentinel-2-l1c"), torch.device("cpu"))


def some_aerosol(aod: Tensor) -> Aerosol:
    return aerosol_of(torch.arange(len(aod)) % 4, aod, tuple(WAVELENGTHS.tolist()))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (matrices.inverse, (MATRICES,)),
        (matrices.is_exact, (torch.cat((MATRICES, matrices.shift(2, 3, -1, MATRICES.device))),)),
        (matrices.growth, (MATRICES,)),
        (matrices.quantised, (MATRICES / 3,)),
        (matrices.rotation, (doubles(9, low=-180, high=180),)),
        (matrices.translation, (doubles(9), doubles(9) * 7)),
        (lambda linear: matrices.about_centre(linear, Size(20, 31), Size(17, 40)), (MATRICES[:, :2, :2],)),
        (
            lambda *numbers: matrices.turned(numbers[0], Size(20, 31), *numbers[1:3], move=numbers[3:]),
            (doubles(9) * 90, doubles(9) + 2, doubles(9) * 20, doubles(9) * 5, doubles(9)),
        ),
        (lambda matrix: warp.sampling_terms(matrix, Size(22, 33)), (MATRICES,)),
        (
            lambda elevation, aod, zenith, azimuth: torch.stack(
                air.layer(WAVELENGTHS, elevation, some_aerosol(aod), True, zenith, azimuth)
            ),
            (doubles(9, low=10, high=80), doubles(9, low=0.1, high=0.9), doubles(9) * 20 + 30, doubles(9) * 180),
        ),
    ],
)
def test_numpy_and_torch_agree(function: Callable[..., Tensor], arguments: tuple[Tensor, ...]) -> None:
    here, there = function(*arguments), function(*map(elsewhere, arguments))
    assert type(here) is Tensor
    assert here.dtype == there.dtype
    assert torch.allclose(here.double(), there.as_subclass(Tensor).double(), rtol=1e-12, atol=1e-9)


def test_thickened_air_is_two_layers_of_it() -> None:
    elevation, aod = doubles(4, low=20, high=70), doubles(4, low=0.1, high=0.4)
    before, after = air.thickened(WAVELENGTHS, elevation, some_aerosol(aod), 0.05)
    for found, depth in ((before, torch.full_like(aod, 0.05)), (after, aod + 0.05)):
        one = air.layer(WAVELENGTHS, elevation, some_aerosol(depth))
        assert torch.allclose(found.path, one.path, rtol=1e-12)
        assert torch.allclose(found.transmittance, one.transmittance, rtol=1e-12)


def test_gradients_and_other_tensors_are_left_to_torch() -> None:
    seen: list[str] = []

    def double(xp: Any, value: Any) -> Any:
        seen.append(xp.__name__)
        return value * 2

    twice = by_numpy(double)
    wanted = torch.ones(2, requires_grad=True)
    twice(wanted).sum().backward()
    assert wanted.grad is not None
    assert wanted.grad.tolist() == [2, 2]
    assert type(twice(elsewhere(torch.ones(2)))) is Elsewhere
    assert torch.equal(twice(torch.ones(2)), torch.full((2,), 2.0))
    assert seen == ["torch", "torch", "numpy"]
    assert not runs_by_numpy(torch.ones(2, device="meta"))
    assert not runs_by_numpy((torch.ones(2), (wanted,)))
    pair = several_by_numpy(lambda xp, values: (values[0] + values[1], values[0]))((torch.ones(2), torch.ones(2)))
    assert [type(one) for one in pair] == [Tensor, Tensor]


@pytest.fixture
def _words_as_they_were() -> Iterator[None]:
    before = list(geoaug.rng.philox._compiled_words)
    yield
    geoaug.rng.philox._compiled_words[:] = before


def drawn_words(key: Tensor) -> Tensor:
    """Draws of every kind from streams of several lengths, one after the other: (N,)."""
    found = []
    for draws in Draws.for_streams(key, 3, (5, 0, 9)):
        drawn = (draws.uniform(2, 3), draws.integer(7), draws.normals(11), draws.uniforms(6), draws.log_uniform(1, 2))
        found += [part.as_subclass(Tensor).double().flatten() for part in (*drawn, draws.words(9), draws.uniform())]
    return torch.cat(found)


KEY = torch.randint(0, 2**63 - 1, (5,), generator=torch.Generator().manual_seed(1))


@pytest.mark.usefixtures("_words_as_they_were")
def test_words_are_the_same_by_numpy_and_by_torch() -> None:
    geoaug.rng.philox._compiled_words.clear()
    assert torch.equal(drawn_words(elsewhere(KEY)), drawn_words(KEY))


# Loading what compiles them may compile all of it.
@pytest.mark.slow
@pytest.mark.usefixtures("_words_as_they_were")
def test_words_are_the_same_by_numpy_and_by_numba() -> None:
    geoaug.rng.philox._compiled_words.clear()
    by_numpy_alone = drawn_words(KEY)
    pytest.importorskip("numba")
    executor_for("cpu", torch.device("cpu"))
    if not geoaug.rng.philox._compiled_words:
        from geoaug.augment.kernels.compiled import parameter_words

        geoaug.rng.philox.use_words(parameter_words)
    assert torch.equal(drawn_words(KEY), by_numpy_alone)

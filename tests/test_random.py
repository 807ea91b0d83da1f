"""Keyed randomness against the published vectors of Random123 and against statistics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from geoaug.rng import noise as fields
from geoaug.rng.draws import Draws, random_keys, sample_keys, split_keys, stable_id
from geoaug.rng.noise import standard_normal
from geoaug.rng.philox import philox4x32

# Random123, kat_vectors: philox4x32 10.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter: str, key: str, expected: str) -> None:
    assert philox4x32(torch.tensor(words(counter)), torch.tensor(words(key))).tolist() == words(expected)


def test_philox_is_the_same_in_a_batch_as_alone() -> None:
    counters = torch.tensor([words(row[0]) for row in KNOWN_ANSWERS]).T
    keys = torch.tensor([words(row[1]) for row in KNOWN_ANSWERS]).T
    expected = torch.tensor([words(row[2]) for row in KNOWN_ANSWERS]).T
    assert torch.equal(philox4x32(counters, keys), expected)


def philox_by_hand(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 in Python's unbounded integers, from the paper's definition."""
    c, k, mask = list(counter), list(key), 2**32 - 1
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & mask, (a >> 32) ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6))
def test_philox_equals_unbounded_integer_arithmetic(numbers: list[int]) -> None:
    counter, key = numbers[:4], numbers[4:]
    assert philox4x32(torch.tensor(counter), torch.tensor(key)).tolist() == philox_by_hand(counter, key)


def test_keys_depend_on_seed_sample_and_epoch_alone() -> None:
    keys = sample_keys(7, range(100), epoch=3)
    assert torch.equal(sample_keys(7, [41, 2], epoch=3), keys[[41, 2]])
    everything = torch.cat([sample_keys(seed, range(1000), epoch) for seed in (0, 1, -1) for epoch in (0, 1)])
    assert len(everything.unique()) == 6000
    assert (everything >= 0).all()


def test_stable_ids_do_not_change_between_versions() -> None:
    # Files written today must be reproducible by a later version: this number is a promise.
    assert stable_id("scene", 0, 256, 1) == 1149878769288900399
    assert stable_id("a", 1) != stable_id("a", "1")
    assert stable_id("ab", "c") != stable_id("a", "bc")


def test_split_keys_are_distinct_and_belong_to_their_sample() -> None:
    key = random_keys(5)
    parts = split_keys(key, 3)
    assert len(parts.unique()) == 15
    assert torch.equal(split_keys(key[2:3], 3), parts[6:9])


def test_draws_do_not_depend_on_the_batch_or_the_pool() -> None:
    key = random_keys(6)
    whole = Draws(key, 2)
    first = [whole.uniform(), whole.uniforms(90), whole.normals(7), whole.integer(8).double()]
    alone = Draws(key[4:5], 2)
    again = [alone.uniform(), alone.uniforms(90), alone.normals(7), alone.integer(8).double()]
    pooled = Draws.for_streams(key, 5)[2]
    third = [pooled.uniform(), pooled.uniforms(90), pooled.normals(7), pooled.integer(8).double()]
    for batched, single, shared in zip(first, again, third, strict=True):
        assert torch.equal(batched[4], single[0])
        assert torch.equal(batched, shared)


def test_uniform_draws_are_uniform_and_independent_between_samples() -> None:
    draws = Draws(sample_keys(0, range(20000)), 0)
    first, second = draws.uniform().numpy(), draws.uniform().numpy()
    assert stats.kstest(first, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.03


def test_integers_are_equally_likely() -> None:
    counts = np.bincount(Draws(sample_keys(1, range(40000)), 0).integer(8).numpy(), minlength=8)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_table_of_normal_numbers_is_as_normal_as_it_says() -> None:
    table = fields.normal_quantiles(torch.device("cpu")).double().numpy()
    assert abs(table.mean()) < 1e-7
    assert abs(table.var() - 1) < 1e-6
    assert stats.kurtosis(table) == pytest.approx(-0.0085, abs=1e-4)
    assert table.max() == pytest.approx(3.669, abs=1e-3)
    # A step of the distribution is 1/4096 high, half of it above; the scale to unit variance adds a little.
    assert np.abs(stats.norm.cdf(table) - (np.arange(65536) + 0.5) / 65536).max() < 1.3 / 8192


def test_noise_is_standard_normal_and_white() -> None:
    noise = standard_normal(sample_keys(3, range(4)), 3, 200 * 201)
    flat = noise.flatten().double()
    assert abs(flat.mean()) < 4 / len(flat) ** 0.5
    assert abs(flat.var() - 1) < 4 * (2 / len(flat)) ** 0.5
    assert stats.kstest(flat[:50000].numpy(), "norm").pvalue > 1e-3
    picture = noise[0, 0].view(200, 201).double()
    for other in (picture.roll(1, 0), picture.roll(1, 1), noise[0, 1].view(200, 201), noise[1, 0].view(200, 201)):
        assert abs((picture * other).mean()) < 4 / 200


@pytest.fixture(params=["words by torch", "words by rounds"])
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the words of noise are made on the CPU: by a function that torch 2.15 has, or by its operations."""
    if request.param == "words by rounds":
        monkeypatch.setattr(fields, "_words_of_torch", lambda: None)
    elif fields._words_of_torch() is None:
        pytest.skip("this torch makes no such words")
    return str(request.param)


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize(("channels", "pixels"), [(1, 1), (3, 7), (4, 1001), (2, 8 * 2**18 + 3)])
def test_noise_looks_up_the_halves_of_words(channels: int, pixels: int) -> None:
    """From the definition: the generator that is checked above, the mapping of words to pixels, scipy's quantiles."""
    key, stream = sample_keys(5, [3, 10**12]), 7
    blocks = -(-pixels // 8)
    expected = []
    for one in key.tolist():
        counter = torch.zeros(4, channels, blocks, dtype=torch.int64)
        counter[0], counter[1] = torch.arange(blocks), (torch.arange(channels) + 65536 * stream)[:, None]
        words = philox4x32(counter, torch.tensor([one & 0xFFFFFFFF, one >> 32])[:, None, None])
        pixel = np.arange(pixels)
        word = words.numpy()[pixel // blocks % 4, :, pixel % blocks].T
        half = np.where(pixel < 4 * blocks, word & 0xFFFF, word >> 16)
        expected.append(stats.norm.ppf((half // 16 + 0.5) / 4096))
    # The table is scaled to variance 1, which cut tails lack.
    every = stats.norm.ppf((np.arange(4096) + 0.5) / 4096)
    found = standard_normal(key, channels, pixels, stream)
    np.testing.assert_allclose(found.numpy(), np.stack(expected) / every.std(), rtol=3e-6, atol=1e-7)


@pytest.mark.usefixtures("road")
def test_noise_is_made_on_the_device_of_its_key() -> None:
    key = sample_keys(1, [4])
    expected = standard_normal(key, 2, 100)
    getattr(fields._words_of_torch, "cache_clear", lambda: None)()
    with torch.device("meta"):
        assert torch.equal(standard_normal(key, 2, 100), expected)


def test_words_of_a_torch_that_makes_others_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(numbers: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return numbers.fill_(key.view(torch.int64).sum())

    def refuses(numbers: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such key")

    expected = standard_normal(sample_keys(1, [4]), 2, 100)
    for function in (other, refuses, None):
        monkeypatch.setattr(torch.ops.aten, "_philox_randint_", function)
        fields._words_of_torch.cache_clear()
        assert fields._words_of_torch() is None
        assert torch.equal(standard_normal(sample_keys(1, [4]), 2, 100), expected)
    monkeypatch.undo()
    fields._words_of_torch.cache_clear()


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("pixels", [1, 7, 8, 9, 63, 1001])
def test_noise_of_a_sample_does_not_depend_on_its_batch(pixels: int) -> None:
    key = random_keys(5)
    noise = standard_normal(key, 4, pixels, stream=1)
    assert noise.shape == (5, 4, pixels)
    assert torch.equal(standard_normal(key[3:4], 4, pixels, stream=1)[0], noise[3])
    assert torch.equal(standard_normal(key, 2, pixels, stream=1), noise[:, :2])
    assert not torch.equal(standard_normal(key, 4, pixels, stream=0), noise)

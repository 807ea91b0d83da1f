"""Mixing: shares have their distribution, pixels and labels go together, and nothing invalid bleeds."""

from typing import Any

import kornia.augmentation as K
import pytest
import torch
from scipy import stats
from torch import Tensor

from geoaug.augment import RandomCutMix, RandomMixUp, RandomSlideMix
from geoaug.augment.mixing import beta_of, beta_quantiles
from geoaug.augment.planning.matrices import Size
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys

MIXES = {
    "RandomMixUp": lambda **given: RandomMixUp(num_classes=5, **given),
    "RandomCutMix": lambda **given: RandomCutMix(num_classes=5, **given),
    "RandomSlideMix": lambda **given: RandomSlideMix(**given),
}


def batch(samples: int = 6, side: int = 24, bands: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(samples)
    return {
        "image": torch.rand(samples, bands, side, side, generator=generator),
        "mask": torch.randint(0, 5, (samples, side, side), generator=generator),
        "valid": torch.rand(samples, 1, side, side, generator=generator) > 0.1,
        "label": torch.randint(0, 5, (samples,), generator=generator),
        "key": sample_keys(0, range(samples)),
    }


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 2.0, 20.0])
def test_shares_are_beta_distributed(alpha: float) -> None:
    uniform = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    drawn = beta_of(uniform, beta_quantiles(alpha))
    expected = torch.from_numpy(stats.beta(alpha, alpha).ppf(uniform.numpy()))
    # The last few thousandths of probability lie between two entries of the table.
    assert (drawn - expected)[20:-20].abs().max() < 2e-3
    lower = drawn[:10_000].numpy()
    assert stats.kstest(lower, lambda x: 2 * stats.beta(alpha, alpha).cdf(x)).statistic < 2e-3
    assert torch.allclose(drawn + drawn.flip(0), torch.ones(20_000, dtype=torch.float64))


def test_mixup_blends_images_and_labels_by_one_share() -> None:
    data, mix = batch(), RandomMixUp(1.0, num_classes=5)
    del data["valid"]
    params = mix.parameters_for(data["key"], Size(24, 24))
    out = mix(data)
    share, partner = params["share"].float(), params["partner"]
    assert sorted(partner.tolist()) == list(range(6))
    assert (partner != torch.arange(6)).all()
    for i in range(6):
        j, s = int(partner[i]), float(share[i])
        assert torch.allclose(out["image"][i], (1 - s) * data["image"][i] + s * data["image"][j], atol=1e-6)
        one_hot = torch.zeros(5)
        one_hot[data["label"][i]] += 1 - s
        one_hot[data["label"][j]] += s
        assert torch.allclose(out["label"][i], one_hot, atol=1e-6)
        assert torch.allclose(out["mask"][i].sum(0), torch.ones(24, 24), atol=1e-6)
        own = out["mask"][i].gather(0, data["mask"][i][None])[0]
        assert (own >= 1 - s - 1e-6).all()
    loss = torch.nn.functional.cross_entropy(torch.randn(6, 5, 24, 24), out["mask"])
    assert torch.isfinite(loss)


def test_mixup_ignores_and_invalidates_where_either_is() -> None:
    data, mix = batch(), RandomMixUp(1.0, num_classes=5, fill=-1.0)
    data["mask"][:, 3] = 255
    data["image"] = torch.where(data["valid"], data["image"], torch.nan)
    out = mix(data)
    partner = mix.parameters_for(data["key"], Size(24, 24))["partner"]
    both = data["valid"] & data["valid"][partner]
    assert torch.equal(out["valid"], both)
    assert torch.isfinite(out["image"]).all()
    assert (out["image"][~both.expand_as(out["image"])] == -1).all()
    assert (out["mask"][:, :, 3] == 0).all()


def test_cutmix_copies_a_box_bit_for_bit_and_counts_it() -> None:
    data, mix = batch(), RandomCutMix(num_classes=5)
    data["image"] = (data["image"] * 60_000).to(torch.uint16)
    data["cloud"] = torch.randint(0, 4, (6, 24, 24), dtype=torch.uint8)
    data["image"].view(torch.int16)[0, 0, 0, 0] = -1
    out = mix(data)
    params = mix.parameters_for(data["key"], Size(24, 24))
    for i in range(6):
        top, bottom, left, right = (int(params[name][i]) for name in ("top", "bottom", "left", "right"))
        j = int(params["partner"][i])
        inside = torch.zeros(24, 24, dtype=torch.bool)
        inside[top:bottom, left:right] = True
        for name in ("image", "mask", "valid", "cloud"):
            expected = torch.where(inside, data[name][j].to(torch.int64), data[name][i].to(torch.int64))
            assert torch.equal(out[name][i].to(torch.int64), expected), name
        share = float(inside.double().mean())
        label = torch.zeros(5)
        label[data["label"][i]] += 1 - share
        label[data["label"][j]] += share
        assert torch.allclose(out["label"][i], label, atol=1e-6)


def test_boxes_of_cutmix_cover_what_they_should_before_they_are_cut() -> None:
    mix = RandomCutMix(alpha=50.0)  # shares near a half
    params = mix.parameters_for(sample_keys(0, range(4000)), Size(200, 200))
    whole = (params["top"] > 0) & (params["bottom"] < 200) & (params["left"] > 0) & (params["right"] < 200)
    assert float(params["share"][whole].mean()) == pytest.approx(0.5, abs=0.02)


def test_slidemix_sees_every_pixel_once_and_every_place_equally_often() -> None:
    data, mix = batch(2000, side=6, bands=1), RandomSlideMix()
    data["image"] = torch.arange(36.0).view(1, 1, 6, 6).expand(2000, 1, 6, 6).contiguous()
    out = mix(data)["image"]
    assert torch.equal(out.flatten(1).sort(1).values, data["image"].flatten(1))
    assert stats.chisquare(torch.bincount(out[:, 0, 0, 0].long(), minlength=36).numpy()).pvalue > 1e-4
    assert torch.equal(out[:, 0, 0, 1] % 6, (out[:, 0, 0, 0] + 1) % 6)


def test_slidemix_takes_a_smaller_window_and_knows_its_place() -> None:
    data = batch(40)
    place = torch.tensor([[10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0]], dtype=torch.float64)
    data["transform"] = place.expand(40, 6).contiguous()
    mix = RandomSlideMix(16)
    out = mix(data)
    params = mix.parameters_for(data["key"], Size(24, 24))
    assert out["image"].shape == (40, 3, 16, 16)
    assert out["mask"].shape == (40, 16, 16)
    assert torch.equal(out["label"], data["label"])
    kept = 0
    for i in range(40):
        top, left = int(params["top"][i]), int(params["left"][i])
        rolled = data["image"][i].roll((-top, -left), (-2, -1))[:, :16, :16]
        assert torch.equal(out["image"][i], rolled)
        if top <= 8 and left <= 8:
            kept += 1
            assert out["transform"][i].tolist() == [10, 0, 500_000 + 10 * left, 0, -10, 5_000_000 - 10 * top]
        else:
            assert out["transform"][i].isnan().all()
    assert 0 < kept < 40


@pytest.mark.parametrize("name", MIXES)
def test_keys_govern_and_without_them_torchs_seed(name: str) -> None:
    mix, data = MIXES[name](p=0.7), batch()
    assert torch.equal(mix(data)["image"], mix(data)["image"])
    other = {**data, "key": sample_keys(1, range(6))}
    assert not torch.equal(mix(other)["image"], mix(data)["image"])
    del data["key"]
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(mix(data)["image"])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("name", MIXES)
def test_the_gate_is_per_sample_and_one_sample_is_left_alone(name: str) -> None:
    data = batch(400, side=8)
    del data["valid"]
    out = MIXES[name](p=0.3)(data)
    changed = (out["image"] != data["image"]).flatten(1).any(1)
    # A share or a move may be nothing, so a few more stay as they were.
    assert stats.binomtest(int(changed.sum()), 400, 0.3).pvalue > 1e-6 or int(changed.sum()) < 120
    assert 40 < int(changed.sum()) < 160
    if name != "RandomSlideMix":
        single = {key: value[:1] for key, value in data.items()}
        alone = MIXES[name]()(single)
        assert torch.equal(alone["image"], single["image"])
        assert alone["label"].argmax(1).tolist() == single["label"].tolist()


@pytest.mark.parametrize("name", MIXES)
def test_time_series_are_mixed_date_by_date_alike(name: str) -> None:
    data = batch(4, side=8)
    series = {**data, "image": data["image"][:, None].expand(-1, 3, -1, -1, -1).contiguous()}
    single, several = MIXES[name]()(data)["image"], MIXES[name]()(series)["image"]
    for date in range(3):
        assert torch.equal(several[:, date], single)


@pytest.mark.parametrize("name", MIXES)
def test_mixes_work_in_augmentation_sequential(name: str) -> None:
    torch.manual_seed(0)
    data = batch()
    if name == "RandomMixUp":
        # Kornia's container takes no labels through any mix, and class masks cannot be blended.
        image = K.AugmentationSequential(MIXES[name](), data_keys=["input"])(data["image"])
        mix = RandomMixUp(num_classes=5, data_keys=["input", "class"])
        _, label = mix(data["image"], data["label"])
        assert torch.allclose(label.sum(1), torch.ones(6))
    else:
        container = K.AugmentationSequential(MIXES[name](), data_keys=["input", "mask"])
        image, mask = container(data["image"], data["mask"][:, None].float())
        assert set(mask.unique().tolist()) <= set(range(5))
    assert image.shape == data["image"].shape
    assert not torch.equal(image, data["image"])


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: RandomMixUp()({**batch(), "image": torch.zeros(6, 3, 24, 24, dtype=torch.uint8)}), "blends numbers"),
        (lambda: RandomMixUp()(batch()), "say num_classes="),
        (lambda: RandomMixUp(num_classes=5)({"image": torch.zeros(3, 3)}), "takes a batch with 'image'"),
        (lambda: RandomCutMix(alpha=0.0), "alpha=0.0"),
        (lambda: RandomCutMix(p=2.0), "p is a probability"),
        (lambda: RandomCutMix()({**batch(), "bbox_xyxy": []}), "cannot mix boxes"),
        (lambda: RandomSlideMix(99)(batch()), "larger than a tile"),
        (lambda: RandomSlideMix()({**batch(), "key": torch.zeros(2)}), "'key' is one integer"),
    ],
)
def test_mistakes_are_named(run: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run()

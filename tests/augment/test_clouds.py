"""Clouds and shadows: where they lie, how they look from band to band, and the labels they give for free."""

import math

import pytest
import torch
from torch import Tensor

from geoaug import Compose, get_sensor, load_recipe
from geoaug.augment import (
    RandAugment,
    RandomCloud,
    RandomCloudShadow,
    RandomD4,
    RandomIllumination,
    RandomRotation,
    TrivialAugment,
)
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys

S2 = get_sensor("sentinel-2-l1c")
GROUND = 0.2


def tiles(samples: int, side: int = 160, sensor=S2, **more: object) -> dict[str, object]:
    dn = torch.full((samples, len(sensor.bands), side, side), int(GROUND * 10000)).to(torch.uint16)
    return {"image": dn, "key": sample_keys(4, range(samples)), **more}


def water(**given: object) -> RandomCloud:
    return RandomCloud((0.3, 0.3), cirrus=0.0, size_m=(500, 800), p=1.0, **given)  # type: ignore[arg-type]


def shift_between(reference: Tensor, moved: Tensor) -> tuple[int, int]:
    """x and y by which `moved` is displaced against `reference`, by circular cross-correlation."""
    spectrum = torch.fft.fft2(moved - moved.mean()) * torch.fft.fft2(reference - reference.mean()).conj()
    peak = int(torch.fft.ifft2(spectrum).real.argmax())
    height, width = reference.shape
    y, x = divmod(peak, width)
    return (x + width // 2) % width - width // 2, (y + height // 2) % height - height // 2


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 155.0, 250.0])
def test_a_shadow_lies_beyond_its_cloud_from_the_sun(azimuth: float) -> None:
    height, elevation = 500.0, 45.0
    batch = tiles(16, sun_azimuth=torch.full((16,), azimuth), sun_elevation=torch.full((16,), elevation))
    cloud = water(height_m=height)
    out = Compose([cloud, RandomCloudShadow(p=1.0)], sensor=S2)(batch)
    pixels = height / math.tan(math.radians(elevation)) / 10
    # Away from the sun: an azimuth is clockwise from the top, y points down.
    expected = (-pixels * math.sin(math.radians(azimuth)), pixels * math.cos(math.radians(azimuth)))
    alone = Compose([RandomCloudShadow((45, 45), (0.3, 0.3), size_m=(500, 800), height_m=height, p=1.0)], sensor=S2)
    assert (alone(batch)["cloud"] == 3).any()
    found = tested = 0
    for sample in range(16):
        clouds = (out["cloud"][sample] == 1) | (out["cloud"][sample] == 2)
        shadows = out["cloud"][sample] == 3
        if not (0.05 < float(clouds.double().mean()) < 0.6 and shadows.any()):
            continue
        tested += 1
        x, y = shift_between(clouds.double(), shadows.double())
        if abs(x - expected[0]) <= 4 and abs(y - expected[1]) <= 4:
            found += 1
    # Clouds beyond the edge throw shadows into some tiles, which no correlation can tell apart.
    assert tested >= 6
    assert found >= 0.6 * tested


def test_the_shadow_is_the_clouds_own_field_moved() -> None:
    batch = tiles(4, sun_azimuth=torch.full((4,), 90.0), sun_elevation=torch.full((4,), 45.0))
    with_cloud = Compose([RandomCloudShadow(p=1.0), water(height_m=200.0)], sensor=S2)
    plan = with_cloud.plan(batch)
    shade, veil = (segment.modulation.maps for segment in plan.stages[0].segments)
    from geoaug.augment.planning.maps import Surroundings
    from geoaug.augment.planning.matrices import Size

    hidden = 1 - (1 - veil.make(Size(160, 160), Surroundings())[:, 1]) ** 2
    dark = shade.make(Size(160, 160), Surroundings())[:, 0]
    # The sun stands in the east, 200 m up at 45 degrees: the shadow lies 20 pixels to the west.
    assert torch.allclose(dark[:, :, :-20], hidden[:, :, 20:], atol=1e-4)


def test_shadows_turn_with_the_tile() -> None:
    azimuth = torch.full((8,), 150.0)
    batch = tiles(8, sun_azimuth=azimuth, sun_elevation=torch.full((8,), 45.0))
    compose = Compose(
        [RandomD4(), RandomRotation(40, p=1.0), RandomCloudShadow(p=1.0), water(height_m=300.0)], sensor=S2
    )
    plan = compose.plan(batch)
    drawn = {item.name: item.params for item in plan.drawn}["RandomCloudShadow"]
    out = compose.apply(batch, plan)
    assert torch.allclose(drawn["sun_azimuth"].float(), out["sun_azimuth"], atol=1e-3)
    assert (drawn["sun_azimuth"] - 150).abs().max() > 10
    shade = plan.stages[0].segments[0].modulation.maps
    towards = torch.deg2rad(out["sun_azimuth"].double())
    expected = 30 * torch.stack((towards.sin(), -towards.cos()), dim=-1)
    assert torch.allclose(shade.offset, expected, atol=1e-3)


def test_a_finer_pixel_throws_shadows_further() -> None:
    from geoaug.augment import RandomAffine

    batch = tiles(2, sun_azimuth=torch.zeros(2), sun_elevation=torch.full((2,), 45.0))
    zoomed = Compose([RandomAffine(scale=(2.0, 2.0), p=1.0), RandomCloudShadow(height_m=400.0, p=1.0)], sensor=S2)
    place = torch.tensor([[20.0, 0, 0, 0, -20.0, 0]] * 2, dtype=torch.float64)
    for given, metres in ((batch, 10.0), ({**batch, "transform": place}, 20.0)):
        (segment,) = zoomed.plan(given).stages[0].segments
        distance = segment.modulation.maps.offset.norm(dim=-1)
        assert torch.allclose(distance, torch.full((2,), 400 / (metres / 2), dtype=torch.float64))


def test_clouds_are_white_and_cirrus_alone_shows_at_1375() -> None:
    plain = Compose([], sensor=S2)(tiles(1))["image"][0, :, 0, 0]
    bands = {name: i for i, name in enumerate(S2.band_names)}
    for cirrus, name in ((0.0, "water"), (1.0, "ice")):
        given = RandomCloud((0.5, 0.5), thickness=60, cirrus=cirrus, cirrus_thickness=20, p=1.0)
        out = Compose([given], sensor=S2)(tiles(12))
        thick = out["cloud"] == 1
        seen = out["image"].movedim(1, -1)[thick].mean(0)
        visible = seen[[bands["B02"], bands["B03"], bands["B04"], bands["B08"]]]
        assert float(visible.min()) > 0.5, name
        assert float(visible.std()) < 0.02, name
        assert seen[bands["B12"]] < seen[bands["B08"]]
        change = seen - plain
        if name == "ice":
            assert float(seen[bands["B10"]]) > 0.4
        else:
            assert float(change[bands["B10"]]) < 0.0  # vapour above it hides it


def test_shadows_darken_most_in_the_long_wavelengths_and_keep_the_airs_light() -> None:
    out = Compose([RandomCloudShadow((45, 45), (0.5, 0.5), thickness=60, p=1.0)], sensor=S2)(tiles(8))
    # The darkest pixels are in full shadow.
    image = out["image"]
    darkest = image.flatten(2).amin(2).amin(0) / GROUND
    order = [S2.band_names.index(name) for name in ("B01", "B02", "B03", "B04", "B08", "B12")]
    ratio = darkest[order]
    assert (ratio[:-1] > ratio[1:]).all()
    assert 0.22 < float(ratio[-1]) < 0.3
    assert 0.55 < float(ratio[0]) < 0.8
    surface = get_sensor("sentinel-2-l2a")
    below = Compose([RandomCloudShadow((45, 45), (0.5, 0.5), thickness=60, p=1.0)], sensor=surface)
    assert float(below(tiles(8, sensor=surface))["image"][:, 0].min()) < 0.5 * GROUND


@pytest.mark.parametrize("switch", ["keep", "ignore", "invalid"])
def test_thick_cloud_does_to_labels_and_validity_what_the_switch_says(switch: str) -> None:
    batch = tiles(8, mask=torch.full((8, 160, 160), 3, dtype=torch.uint8))
    out = Compose([water(thick_cloud=switch)], sensor=S2, fill=-1.0)(batch)
    thick = out["cloud"] == 1
    assert 0.02 < float(thick.double().mean()) < 0.5
    assert torch.equal(out["mask"] == 255, thick if switch != "keep" else torch.zeros_like(thick))
    assert torch.equal(out["valid"][:, 0], ~thick if switch == "invalid" else torch.ones_like(thick))
    assert ((out["image"][:, 0] == -1) == (thick & (switch == "invalid"))).all()


def test_coverage_is_kept_on_average() -> None:
    for share in (0.1, 0.5):
        out = Compose([RandomCloud((share, share), size_m=300, cirrus=0.0, p=1.0)], sensor=S2)(tiles(60, side=96))
        covered = out["image"][:, 1] > GROUND * 1.02
        assert float(covered.double().mean()) == pytest.approx(share, abs=0.06)


def test_no_cloud_no_shadow_and_skipped_samples_are_untouched() -> None:
    batch = tiles(60, side=32)
    compose = Compose([RandomCloud(p=0.5), RandomCloudShadow(p=0.5)], sensor=S2)
    rows = compose.plan(batch).parameters()
    both, cloud = sum("RandomCloudShadow" in row for row in rows), sum("RandomCloud" in row for row in rows)
    assert all("RandomCloud" in row for row in rows if "RandomCloudShadow" in row)
    assert 15 < cloud < 45
    assert 5 < both < cloud
    out, plain = compose(batch), Compose([], sensor=S2)(batch)
    for index, row in enumerate(rows):
        if not row:
            assert torch.equal(out["image"][index], plain["image"][index])
            assert not out["cloud"][index].any()


def test_dates_have_weather_of_their_own_unless_they_share_it() -> None:
    image = tiles(3, side=64)["image"][:, None].expand(-1, 4, -1, -1, -1).contiguous()  # type: ignore[index]
    mask = torch.ones(3, 64, 64, dtype=torch.int64)
    batch = {"image": image, "mask": mask, "key": sample_keys(0, range(3))}
    apart = Compose([RandomCloud((0.5, 0.5), p=1.0)], sensor=S2)(batch)
    assert apart["cloud"].shape == (3, 4, 64, 64)
    assert not torch.equal(apart["cloud"][:, 0], apart["cloud"][:, 1])
    # A label is lost only where no date sees the ground.
    assert torch.equal(apart["mask"] == 255, (apart["cloud"] == 1).all(1))
    together = Compose([RandomCloud((0.5, 0.5), p=1.0, same_on_time=True)], sensor=S2)(batch)
    for date in range(1, 4):
        assert torch.equal(together["image"][:, date], together["image"][:, 0])
    assert (together["mask"] == 255).any()


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigurationError, match="thick_cloud='drop'"):
        RandomCloud(thick_cloud="drop")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="cirrus=2"):
        RandomCloud(cirrus=2)
    with pytest.raises(ConfigurationError, match="is for optical images"):
        Compose([RandomCloud()], sensor="sentinel-1-power")
    with pytest.raises(ConfigurationError, match="one angle in degrees for each of 2"):
        Compose([RandomCloudShadow()], sensor=S2)(tiles(2, side=16, sun_azimuth=torch.zeros(3)))


def test_cirrus_is_a_veil_of_kilometres_through_which_the_ground_is_seen() -> None:
    """Within a chip it hardly varies, and water clouds do; none of it is thick."""
    batch = tiles(200, side=64)
    spreads = {}
    for name, cirrus in (("veil", 1.0), ("cumulus", 0.0)):
        out = Compose([RandomCloud((0.4, 0.6), cirrus=cirrus, p=1.0)], sensor=S2, executor="torch")(batch)
        brighter = (out["image"][:, 3] - GROUND).flatten(1)
        seen = brighter.mean(1) > 0.002
        assert seen.sum() > 30
        spreads[name] = float((brighter.std(1) / brighter.mean(1))[seen].median())
        assert cirrus == 0 or not (out["cloud"] == 1).any()
    assert spreads["veil"] < 0.5 * spreads["cumulus"]


@pytest.mark.parametrize("made", ["RandAugment", "TrivialAugment", "sentinel-2-classification"])
def test_no_thick_cloud_hides_what_a_class_is_of(made: str) -> None:
    pool = {"RandAugment": RandAugment(3, 1.0), "TrivialAugment": TrivialAugment(1.0)}
    compose = Compose([pool[made]], sensor=S2) if made in pool else load_recipe(made).compose(sensor=S2)
    compose.executor = "torch"
    labels = compose(tiles(200, side=32))["cloud"]
    assert (labels == 2).any(1).any()
    assert (labels == 1).float().mean() < 1e-3


@pytest.mark.parametrize("height", [2000.0, 10_000.0])
def test_bands_see_a_cloud_apart_by_the_delay_between_them(height: float) -> None:
    """B04 looks 1.005 s after B02 from an orbit of 786 km at 7.44 km/s: two pixels for low cloud, nine for cirrus."""
    pair = S2.select(["B02", "B04"])
    sizes = {"size_m": (300, 400), "height_m": height}
    cloud = RandomCloud((0.4, 0.4), thickness=(20.0, 20.0), cirrus=0.0, p=1.0, **sizes)  # type: ignore[arg-type]
    out = Compose([cloud], sensor=pair, executor="torch")(tiles(12, side=128, sensor=pair))
    expected, found = 1.005 * 7.44 / 786 * height / 10, []
    for blue, red in out["image"].double():
        if float(blue.std()) > 0.1:
            x, y = shift_between(blue, red)
            # Along a track that lies 8 to 18 degrees off north.
            assert math.hypot(x, y) == pytest.approx(expected, abs=1.1)
            assert abs(x) <= 0.35 * abs(y) + 1
            found.append(y)
    assert len(found) >= 8
    # The detector decides which band looks ahead.
    assert min(found) < 0 < max(found)


def test_what_bands_see_apart_turns_with_the_tile() -> None:
    out = Compose([RandomD4(), RandomRotation(180, p=1.0), water(height_m=5000.0)], sensor=S2, executor="torch")
    batch = tiles(16, side=64)
    plan = out.plan(batch)
    views = plan.stages[0].segments[0].modulation.maps.views  # type: ignore[union-attr]
    apart = (views.beside[:, S2.band_names.index("B09")] - views.beside[:, S2.band_names.index("B02")]).double()
    back = torch.linalg.solve(plan.stages[0].matrix[:, :2, :2], apart[..., None])[..., 0]  # type: ignore[union-attr]
    # 0.0245 of 5 km, and pixels are whole ones.
    assert torch.allclose(back.norm(dim=1), torch.tensor(12.25).double(), atol=1.0)
    assert (back[:, 0].abs() <= 0.35 * back[:, 1].abs() + 1).all()


def test_coarse_bands_see_clouds_on_their_own_pixels() -> None:
    out = Compose([water(height_m=0.0)], sensor=S2, executor="torch")(tiles(8, side=96))["image"].double()
    second = out[..., 2:, :] - 2 * out[..., 1:-1, :] + out[..., :-2, :]
    rough = dict(zip(S2.band_names, second.square().mean((0, 2, 3)).sqrt().tolist(), strict=True))
    assert rough["B03"] == pytest.approx(rough["B02"], rel=0.05)
    assert rough["B8A"] < 0.8 * rough["B08"]
    # A mean of six pixels, to which as many neighbours have five in common.
    assert rough["B01"] < 0.35 * rough["B02"]
    # And no band is brighter or darker for it.
    means = out.mean((0, 2, 3))[:4]
    assert float(means.max() - means.min()) < 0.01


def test_ground_under_cloud_is_mixed_with_the_mean_of_the_valid_tile() -> None:
    two = S2.select(["B02", "B03"])
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    ground = 0.15 + 0.1 * ((x // 5 + y // 5) % 2).double()  # not in step with what is sampled
    valid = x < 80
    image = torch.where(valid, ground, 0.9).expand(6, 2, 96, 96) * 10_000
    batch = tiles(6, sensor=two) | {"image": image.to(torch.uint16), "valid": valid.expand(6, 1, 96, 96).clone()}
    veil = RandomCloud((0.9, 0.9), cirrus=1.0, cirrus_thickness=(1.0, 1.0), cirrus_size_m=500, cirrus_height_m=0, p=1.0)
    bright = RandomIllumination((1.2, 1.2), 0.0, p=1.0)
    compose = Compose([bright, veil], sensor=two, executor="torch")
    plan = compose.plan(batch)
    seen = compose.apply(batch, plan)["image"].double()
    from geoaug.augment.planning.maps import Surroundings
    from geoaug.augment.planning.matrices import Size

    (segment,) = plan.stages[0].segments  # type: ignore[union-attr]
    gain, offset, maps = (
        segment.terms.gain[..., None, None],
        segment.terms.offset[..., None, None],
        segment.modulation.maps,
    )
    hidden, reflected, _, diffuse = maps.make(Size(96, 96), Surroundings()).double().unbind(1)
    lit, mean = ground * gain + offset, 0.2 * gain + offset
    expected = lit * (1 - hidden)[:, None] + reflected[:, None] + mean * diffuse[:, None]
    assert float(hidden.mean()) > 0.2
    assert float((seen - expected)[..., :80].abs().max()) < 0.002
    light, dark = (ground > 0.2) & valid, (ground < 0.2) & valid
    without = lit * (1 - reflected[:, None]) ** 2
    step, whole = (values[..., light].mean(2) - values[..., dark].mean(2) for values in (seen, without))
    assert ((step / whole) < 0.9).any()
    assert ((step / whole) < 1.02).all()

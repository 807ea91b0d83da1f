"""Executors of one plan against each other: plain torch, compiled for the CPU, Triton (interpreted without a GPU)."""

import inspect
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from geoaug import Compose, get_sensor, load_recipe
from geoaug.augment import (
    RandomAffine,
    RandomBandShift,
    RandomCloud,
    RandomCloudShadow,
    RandomCrop,
    RandomD4,
    RandomHaze,
    RandomIllumination,
    RandomPointSpread,
    RandomRotation,
    RandomSensorNoise,
    RandomSpeckle,
    RandomStriping,
    RandomTerrainShading,
    Resize,
)
from geoaug.augment.kernels import executors, warp
from geoaug.augment.registry import own_operations
from geoaug.errors import ConfigurationError
from geoaug.presets import preset_names
from geoaug.rng.draws import sample_keys
from geoaug.rng.philox import philox4x32
from geoaug.sensors import Sensor
from geoaug.small_arrays import forget

OPTICAL, RADAR, PICTURE = get_sensor("sentinel-2-l1c"), get_sensor("sentinel-1-db"), get_sensor("rgbn")
PICTURE_PRESETS = ("aerial-rgb",)
ARGUMENTS: dict[str, dict[str, Any]] = {
    "RandomRotation": {"degrees": 30},
    **{name: {"size": 19} for name in ("RandomCrop", "CenterCrop", "PadTo", "Resize", "RandomResizedCrop")},
}
NO_TRITON = pytest.mark.skipif(sys.platform != "linux", reason="no Triton here")
# Interpreted, the kernel takes a second for what a device does in a thousandth: in all too long for a quick run.
CPU = pytest.param("cpu", marks=pytest.mark.slow)  # compiled first
COMPILED = [CPU, pytest.param("triton", marks=[NO_TRITON, pytest.mark.slow])]
DEVICE = {"cpu": "cpu", "triton": "cuda" if torch.cuda.is_available() else "cpu"}
# The interpreter goes through the bands one by one, at tenths of a second each: four of them tell what thirteen do, and
# tiles of one block of pixels what several do, but for the tests of sizes and noise.
FEW = OPTICAL.select(["B01", "B04", "B08", "B12"])


def optical(executor: str) -> Sensor:
    """All bands, or few for the interpreter."""
    return FEW if executor == "triton" and DEVICE[executor] == "cpu" else OPTICAL


def tiles(
    batch: int = 3, bands: int = 13, height: int = 20, width: int = 25, radar: bool = False, picture: bool = False
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(batch + bands)
    image = torch.rand(batch, 2 if radar else bands, height, width, generator=generator)
    stored = (image * 255).to(torch.uint8) if picture else (image * 5000 + 1).to(torch.uint16)
    return {
        "image": image * 20 - 25 if radar else stored,
        "mask": torch.randint(0, 5, (batch, height, width), generator=generator),
        "valid": torch.rand(batch, 1, height, width, generator=generator) > 0.05,
        "key": sample_keys(0, range(batch)),
    }


def both(compose: Compose, batch: dict[str, Any], executor: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same plan by plain torch and by another executor, on the CPU's side."""
    plan = compose.plan(batch)
    compose.executor = "torch"
    plain = compose.apply(batch, plan)
    compose.executor = executor  # type: ignore[assignment]
    device = DEVICE[executor]
    moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    out = compose.apply(moved, plan)
    return plain, {name: value.cpu() if isinstance(value, Tensor) else value for name, value in out.items()}


# Torch's own sampler, which plain torch uses on the CPU, rounds coordinates to some 1e-5 of a pixel, and these images
# change by all of their range from one pixel to the next. Without it, see `test_exact_sampling_agrees_closer`.
TOLERANCE = 2e-5


def agree(compose: Compose, batch: dict[str, Any], executor: str, tolerance: float = TOLERANCE) -> None:
    """Masks and validity exactly, values within a share of their range."""
    plain, out = both(compose, batch, executor)
    assert torch.equal(plain["valid"], out["valid"])
    if "mask" in plain:
        assert torch.equal(plain["mask"], out["mask"])
    if "cloud" in plain:
        assert (plain["cloud"] != out["cloud"]).double().mean() < 1e-3
    assert plain["image"].dtype == out["image"].dtype
    a, b = plain["image"].double(), out["image"].double()
    assert torch.equal(a.isnan(), b.isnan())
    if a.numel():
        span = float((a.nan_to_num().amax() - a.nan_to_num().amin()).clamp_min(1e-6))
        assert (a - b).nan_to_num().abs().max() <= tolerance * span


@pytest.mark.parametrize("executor", COMPILED)
@pytest.mark.parametrize("name", sorted(own_operations()))
def test_every_operation_does_the_same(name: str, executor: str) -> None:
    kind = own_operations()[name]
    radar = getattr(kind, "domain", None) == "sar"
    more = {"p": 0.7} if "p" in inspect.signature(kind).parameters else {}
    turn = [] if name in ARGUMENTS else [RandomRotation(30, p=0.7)]
    picture = getattr(kind, "for_pictures", False)
    sensor = PICTURE if picture else RADAR if radar else optical(executor)
    compose = Compose([*turn, kind(**ARGUMENTS.get(name, {}), **more)], sensor=sensor)
    batch = tiles(bands=len(sensor.bands), radar=radar, picture=picture)
    if name == "RandomJPEG":
        # A number that is rounded to the other side changes all of its block, as much as it is rounded.
        plain, out = both(compose, batch, executor)
        assert (plain["image"] - out["image"]).abs().mean() < 1e-4
        return
    # Where steps round, a value on the edge may fall on either side: those are told by their share below.
    if name == "RandomQuantization":
        plain, out = both(compose, batch, executor)
        assert ((plain["image"] - out["image"]).abs() > 1e-5).double().mean() < 1e-3
        return
    agree(compose, batch, executor)


@pytest.mark.parametrize("executor", COMPILED)
@pytest.mark.parametrize("name", preset_names())
def test_every_preset_does_the_same(name: str, executor: str) -> None:
    radar, picture = name == "sentinel-1", name in PICTURE_PRESETS
    sensor = PICTURE if picture else RADAR if radar else optical(executor)
    compose = load_recipe(name).compose(sensor=sensor)
    plain, out = both(compose, tiles(bands=len(sensor.bands), radar=radar, picture=picture), executor)
    assert torch.equal(plain["valid"], out["valid"])
    assert torch.equal(plain["mask"], out["mask"])
    span = float(plain["image"].amax() - plain["image"].amin())
    assert ((plain["image"] - out["image"]).abs() > 1e-4 * span).double().mean() < 1e-3


GEOMETRY: dict[str, Callable[[], list[torch.nn.Module]]] = {
    "nothing": list,
    "D4": lambda: [RandomD4()],
    "rotation": lambda: [RandomRotation(45, p=1.0)],
    "zoom out": lambda: [RandomRotation(20, p=1.0), RandomAffine(scale=(0.2, 0.9), p=1.0)],
    "shrunk along one axis": lambda: [Resize((9, 60))],
    "crop": lambda: [RandomD4(), RandomAffine(10, (0.2, 0.2), (0.7, 1.4), 8, p=1.0), RandomCrop((17, 23))],
}


@pytest.mark.parametrize("executor", COMPILED)
@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.uint16, torch.int16, torch.float16, torch.bfloat16, torch.float32]
)
def test_geometry_is_the_same_in_every_dtype(name: str, dtype: torch.dtype, executor: str) -> None:
    batch = tiles(bands=2)
    image = (batch["image"].float() % 250).to(dtype)
    if dtype.is_floating_point:
        image[0, 1, 5:9, 7] = torch.nan
        image[1, 0, 19, 3] = torch.inf
    agree(Compose(GEOMETRY[name]()), {**batch, "image": image}, executor)


@pytest.mark.parametrize("executor", COMPILED)
@pytest.mark.parametrize(
    ("batch", "bands", "height", "width"),
    [(0, 3, 16, 16), (1, 1, 1, 1), (1, 1, 1, 50), (1, 20, 33, 7), (2, 1, 64, 64), (5, 20, 19, 23), (1, 3, 130, 127)],
)
def test_odd_sizes_and_band_counts(batch: int, bands: int, height: int, width: int, executor: str) -> None:
    compose = Compose([RandomRotation(30, p=0.8), RandomIllumination(p=0.8)])
    agree(compose, tiles(batch, bands, height, width), executor)
    without = tiles(batch, bands, height, width)
    del without["valid"], without["mask"]
    agree(compose, without, executor)


@pytest.mark.parametrize("executor", COMPILED)
def test_exact_sampling_agrees_closer(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp, "sampler", lambda device, cubic=False: warp.bilinear_exact)
    operations = [
        RandomD4(),
        RandomAffine(20, (0.1, 0.1), (0.4, 1.3), p=1.0),
        RandomIllumination(p=0.7),
        RandomHaze(p=0.7),
        RandomSensorNoise(p=1.0),
    ]
    sensor = optical(executor)
    agree(Compose(operations, sensor=sensor), tiles(4, len(sensor.bands)), executor, 3e-6)


@pytest.mark.parametrize("executor", COMPILED)
def test_memory_in_any_order(executor: str) -> None:
    batch = tiles(bands=4)
    compose = Compose([RandomRotation(30, p=1.0)])
    last = batch["image"].contiguous(memory_format=torch.channels_last)
    turned = batch["image"].transpose(2, 3).contiguous().transpose(2, 3)
    every_second = batch["image"].repeat_interleave(2, 3)[..., ::2]
    valid = batch["valid"].repeat_interleave(2, 3)[..., ::2]
    mask = batch["mask"].transpose(1, 2).contiguous().transpose(1, 2)
    for image in (last, turned, every_second):
        assert torch.equal(image, batch["image"])
        agree(compose, {**batch, "image": image, "valid": valid, "mask": mask}, executor)


@pytest.mark.parametrize("executor", COMPILED)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.uint16, torch.int16, torch.int32, torch.int64])
def test_labels_in_every_dtype(dtype: torch.dtype, executor: str) -> None:
    batch = tiles(bands=1)
    compose = Compose([RandomRotation(30, p=1.0)], ignore_index=100 if dtype == torch.int8 else 255)
    agree(compose, {**batch, "mask": batch["mask"].to(dtype)}, executor)


@pytest.mark.parametrize("executor", COMPILED)
@pytest.mark.parametrize(
    ("dtype", "fill"), [(torch.uint16, 0.0), (torch.uint16, 700.0), (torch.int16, -32768.0), (torch.uint8, 255.0)]
)
def test_integer_output_steps_aside_from_the_fill_value(dtype: torch.dtype, fill: float, executor: str) -> None:
    sensor = optical(executor)
    batch = tiles(bands=len(sensor.bands))
    compose = Compose(
        [RandomRotation(30, p=0.7)], sensor=sensor, out_units="dn", out_dtype=dtype, fill=fill, reserve_fill=True
    )
    plain, out = both(compose, batch, executor)
    assert (plain["image"].int() - out["image"].int()).abs().max() <= 1
    # Values beside a half may be rounded to either side.
    assert ((plain["image"].int() - out["image"].int()) != 0).double().mean() < 0.02
    filled = out["image"].float() == fill
    assert torch.equal(filled, ~out["valid"].expand_as(filled))


@pytest.mark.parametrize("executor", COMPILED)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_output(dtype: torch.dtype, executor: str) -> None:
    sensor = optical(executor)
    compose = Compose([RandomRotation(30, p=0.7)], sensor=sensor, out_dtype=dtype)
    # The interpreter cuts bfloat16 off where devices round.
    agree(compose, tiles(bands=len(sensor.bands)), executor, 2.0**-7)


@pytest.mark.parametrize("executor", COMPILED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_output_with_the_bands_of_a_pixel_together(dtype: torch.dtype, executor: str) -> None:
    batch = tiles(4, 5)
    operations = [RandomRotation(30, p=0.7), RandomPointSpread(p=0.5)]
    plain, out = both(Compose(operations, channels_last=True, out_dtype=dtype), batch, executor)
    for image in (plain["image"], out["image"]):
        assert image.is_contiguous(memory_format=torch.channels_last)
    usual, _ = both(Compose(operations, out_dtype=dtype), batch, executor)
    assert torch.equal(plain["image"], usual["image"])
    assert (plain["image"].float() - out["image"].float()).abs().max() < 5000 * (
        TOLERANCE if dtype == torch.float32 else 2**-9
    )


@pytest.mark.parametrize("executor", ["torch", *COMPILED])
def test_the_nearest_pixel_is_taken(executor: str) -> None:
    batch = tiles(3, 2)
    operations = [RandomD4(), RandomAffine(30, (0.1, 0.1), (0.3, 1.4), p=0.8), RandomBandShift(p=0.5)]
    if executor != "torch":
        agree(Compose(operations[:2], interpolation="nearest"), batch, executor, 0.0)
        agree(Compose(operations, interpolation="nearest"), batch, executor)
    compose = Compose(operations[:2], interpolation="nearest", executor=executor)  # type: ignore[arg-type]
    image = batch["image"][:, :1]
    if DEVICE.get(executor) == "cuda":
        pytest.skip("the same on the device, seen above")
    out = compose({**batch, "image": image, "mask": image[:, 0].int().to(torch.int32)})
    kept = out["valid"][:, 0]
    assert 0.2 < kept.double().mean() < 1
    assert torch.equal(out["image"][:, 0][kept], out["mask"][kept].float())


@pytest.mark.parametrize("executor", COMPILED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_labels_of_pixels_that_are_not_finite_are_dropped(dtype: torch.dtype, executor: str) -> None:
    batch = tiles(3, 2, 40, 40)
    del batch["valid"]
    image = batch["image"].to(dtype)
    generator = torch.Generator().manual_seed(3)
    image[torch.rand(image.shape, generator=generator) < 0.03] = torch.nan
    image[torch.rand(image.shape, generator=generator) < 0.01] = -torch.inf
    for operations in ([RandomRotation(30, p=1.0)], [RandomD4()], [RandomAffine(scale=(0.3, 0.6), p=1.0)]):
        agree(Compose(operations), {**batch, "image": image}, executor)


@pytest.mark.parametrize("executor", COMPILED)
@pytest.mark.parametrize("whole", [True, False])
def test_bands_beside_their_place_in_tiles_that_shrink(whole: bool, executor: str) -> None:
    sensor = optical(executor)
    batch = tiles(2, len(sensor.bands), 40, 40)
    if whole:
        del batch["valid"]
    compose = Compose([RandomAffine(20, scale=(0.2, 0.5), p=1.0), RandomBandShift(p=1.0)], sensor=sensor)
    agree(compose, batch, executor)


@pytest.mark.parametrize("executor", COMPILED)
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_elevations_follow_in_the_same_way(interpolation: str, executor: str) -> None:
    sensor = optical(executor)
    batch = tiles(2, len(sensor.bands), 32, 32)
    batch["dem"] = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 500
    compose = Compose(
        [RandomRotation(30, p=1.0), RandomTerrainShading(p=1.0)],
        sensor=sensor,
        interpolation=interpolation,  # type: ignore[arg-type]
    )
    plain, out = both(compose, batch, executor)
    assert torch.equal(plain["dem"].isnan(), out["dem"].isnan())
    assert (plain["dem"] - out["dem"]).nan_to_num().abs().max() < (0.0 if interpolation == "nearest" else 1e-2) + 1e-6
    agree(compose, batch, executor, 1e-4)


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "geoaug").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    executors._cache_folder.cache_clear()
    try:
        folder = executors._cache_folder()
        assert folder.is_dir()
        assert tmp_path not in folder.parents
        assert folder.stat().st_mode & 0o077 == 0
    finally:
        executors._cache_folder.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    try:
        assert executors._cache_folder().is_absolute()
    finally:
        executors._cache_folder.cache_clear()
        monkeypatch.undo()


@pytest.mark.parametrize("executor", COMPILED)
def test_time_series(executor: str) -> None:
    series = tiles(2, 12)
    image = (series["image"].view(2, 3, 4, 20, 25).float() / 5000).float()
    sensor = OPTICAL.select(["B02", "B03", "B04", "B08"])
    operations = [
        RandomRotation(30, p=1.0),
        RandomHaze(p=0.7, gradient=(0.2, 0.8)),
        RandomCloudShadow(p=0.7),
        RandomCloud(p=0.7),
        RandomBandShift(p=0.7),
        RandomSensorNoise(p=0.7),
        RandomStriping(p=0.7),
    ]
    agree(Compose(operations, sensor=sensor), {**series, "image": image * 10000}, executor)


@pytest.mark.parametrize("executor", COMPILED)
@pytest.mark.parametrize("thick", ["keep", "ignore", "invalid"])
def test_thick_clouds_become_what_the_recipe_says(thick: str, executor: str) -> None:
    sensor = optical(executor)
    compose = Compose([RandomCloud((0.3, 0.7), thick_cloud=thick, p=1.0)], sensor=sensor)
    plain, out = both(compose, tiles(bands=len(sensor.bands)), executor)
    for name in ("valid", "mask", "cloud"):
        assert (plain[name] != out[name]).double().mean() < 1e-3


@pytest.mark.parametrize("dtype", [torch.uint16, torch.float32])
@pytest.mark.parametrize("executor", COMPILED)
def test_what_lies_about_a_pixel_is_the_same(dtype: torch.dtype, executor: str) -> None:
    """Haze and clouds of tiles with many coarse cells, some of which hold no data, and two clouds at once."""
    sensor = optical(executor)
    batch = tiles(3, len(sensor.bands), 60, 72)
    batch["image"] = batch["image"].to(dtype)
    batch["valid"][0, :, :30] = False
    if dtype == torch.float32:
        batch["image"][1, 2, 5:20, 7] = torch.nan
    air = [RandomHaze(p=0.8, gradient=(0.2, 0.8)), RandomCloudShadow(p=0.5), RandomCloud(cirrus=0.5, p=0.8)]
    operations = [RandomRotation(30, p=0.7), RandomIllumination(p=1.0), *air, RandomCloud(p=0.5), RandomHaze(p=0.5)]
    agree(Compose(operations, sensor=sensor), batch, executor)


@pytest.mark.parametrize("executor", COMPILED)
def test_stencils_split_a_stage_and_what_lies_between_stays_together(executor: str) -> None:
    operations = [
        RandomRotation(30, p=1.0),
        RandomSensorNoise(p=0.6),
        RandomPointSpread(p=0.6),
        RandomCloud(p=0.6),
        RandomPointSpread(p=0.6),
        RandomSensorNoise(p=1.0),
    ]
    sensor = optical(executor)
    agree(Compose(operations, sensor=sensor), tiles(bands=len(sensor.bands)), executor)


@pytest.mark.parametrize("executor", COMPILED)
def test_noise_is_the_same_number_by_number(executor: str) -> None:
    """A flat field: what is left is the noise, and the table of quantiles makes it equal to rounding."""
    sensor = optical(executor)
    image = torch.full((2, len(sensor.bands), 33, 29), 3000, dtype=torch.uint16)
    flat = {"image": image, "key": sample_keys(1, range(2))}
    plain, out = both(Compose([RandomSensorNoise(p=1.0)], sensor=sensor), flat, executor)
    noise = plain["image"] - plain["image"].mean()
    assert noise.std() > 1e-4
    assert (plain["image"] - out["image"]).abs().max() < 1e-6
    radar = {"image": torch.full((2, 2, 33, 29), -12.0), "key": sample_keys(1, range(2))}
    plain, out = both(Compose([RandomSpeckle(p=1.0)], sensor=RADAR), radar, executor)
    assert (plain["image"] - out["image"]).abs().max() < 2e-6


@pytest.mark.parametrize("executor", COMPILED)
@pytest.mark.parametrize("kernel", ["nearest", "bilinear", "cubic"])
def test_noise_on_the_pixels_of_bands_is_the_same_number_by_number(kernel: str, executor: str) -> None:
    """Of samples whose pixels are finer than, as wide as and wider than those of bands; twice, about a step."""
    sensor = optical(executor)
    bands, pixels = len(sensor.bands), torch.tensor([10.0, 20.0, 60.0, 7.0], dtype=torch.float64)
    transform = torch.zeros(4, 6, dtype=torch.float64)
    transform[:, 0], transform[:, 4] = pixels, -pixels
    transform[:, 2], transform[:, 5] = 600_010, 5_400_020
    flat = {
        "image": torch.full((4, bands, 21, 19), 3000, dtype=torch.uint16),
        "key": sample_keys(1, range(4)),
        "transform": transform,
    }
    operations = [
        RandomD4(),
        RandomAffine(20, scale=(0.7, 1.5), p=0.7),
        RandomSensorNoise((1, 1), p=0.7),
        RandomPointSpread(p=0.5),
        RandomSensorNoise((2, 2), p=0.7),
    ]
    compose = Compose(operations, sensor=sensor, band_resampling=kernel)  # type: ignore[arg-type]
    plain, out = both(compose, flat, executor)
    assert plain["image"][plain["valid"].expand_as(plain["image"])].std() > 1e-4
    assert (plain["image"] - out["image"]).abs().max() < 1e-6
    if executor == "cpu":  # lines longer than a run
        wide = {"image": torch.full((1, bands, 3, 1100), 3000, dtype=torch.uint16), "key": sample_keys(1, [0])}
        plain, out = both(Compose([RandomSensorNoise(p=1.0)], sensor=sensor), wide, executor)
        assert (plain["image"] - out["image"]).abs().max() < 1e-6


def expected_words(count: int, channel: int, stream: int, key: int) -> Tensor:
    """Words of the counters of noise, by the generator that is checked against the published vectors."""
    zero = torch.zeros(count, dtype=torch.int64)
    counter = torch.stack((torch.arange(count), zero + channel + 65536 * stream, zero, zero))
    return philox4x32(counter, torch.tensor([key & 0xFFFFFFFF, key >> 32])[:, None].expand(2, count))


@pytest.mark.slow
def test_the_kernels_compile_for_a_device_that_is_not_here() -> None:
    """The interpreter takes more than the compiler does; no CUDA device is needed to compile for one."""
    pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = Path(__file__).parents[1] / "support" / "compile_kernel.py"
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stderr
    kernels = ["reference:fused", "reference:draw_lattice", "clouds:fused", "radar:fused", "radar:draw_lattice"]
    assert run.stdout.split() == kernels


@pytest.mark.parametrize(("channel", "stream", "key"), [(0, 0, 1), (12, 257, 2**62 + 12345), (3, 5, 0xDEADBEEFCAFE)])
def test_compiled_words_are_those_of_the_generator(channel: int, stream: int, key: int) -> None:
    np = pytest.importorskip("numpy")
    loops = pytest.importorskip("geoaug.augment.kernels.loops")
    words = np.zeros((4, 100), np.uint32)
    loops.philox(words, 0, 100, np.uint64(channel), np.uint64(stream), np.uint64(key))
    assert torch.equal(torch.from_numpy(words.astype(np.int64)), expected_words(100, channel, stream, key))


@pytest.mark.parametrize(("channel", "stream", "key"), [(0, 0, 1), (12, 257, 2**62 + 12345), (3, 5, 0xDEADBEEFCAFE)])
def test_words_of_the_triton_kernel_are_those_of_the_generator(channel: int, stream: int, key: int) -> None:
    triton = pytest.importorskip("triton")
    parts = pytest.importorskip("geoaug.augment.kernels.triton_kernel")
    tl = triton.language
    device = DEVICE["triton"]

    @triton.jit
    def kernel(out, channels, keys, stream, WORDS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
        first = tl.arange(0, BLOCK)
        w0, w1, w2, w3 = WORDS(first, tl.load(channels), stream, tl.load(keys))
        tl.store(out + first, w0.to(tl.int64))
        tl.store(out + BLOCK + first, w1.to(tl.int64))
        tl.store(out + 2 * BLOCK + first, w2.to(tl.int64))
        tl.store(out + 3 * BLOCK + first, w3.to(tl.int64))

    out = torch.zeros(4, 128, dtype=torch.int64, device=device)
    given = (torch.tensor([number], device=device) for number in (channel, key))
    kernel[(1,)](out, *given, stream, WORDS=parts.words, BLOCK=128)
    assert torch.equal(out.cpu() & 0xFFFFFFFF, expected_words(128, channel, stream, key))


@pytest.mark.slow
def test_geometry_agrees_with_torchs_own_sampler() -> None:
    """An independent look at the compiled executor: torch's `grid_sample` of the plan's matrix."""
    image = F.avg_pool2d(torch.rand(2, 3, 82, 74), 2)
    compose = Compose([RandomAffine(30, (0.1, 0.1), (0.9, 1.3), 5, p=1.0)], interpolation="bilinear", executor="cpu")
    batch = {"image": image, "key": sample_keys(0, range(2))}
    plan = compose.plan(batch)
    out = compose.apply(batch, plan)
    ones = torch.ones(2, 1, 41, 37)
    corners = torch.tensor([[2 / 37, 0, 1 / 37 - 1], [0, 2 / 41, 1 / 41 - 1], [0, 0, 1]], dtype=torch.float64)
    theta = corners @ torch.linalg.inv(plan.matrix) @ torch.linalg.inv(corners)
    grid = F.affine_grid(theta[:, :2], [2, 3, 41, 37], align_corners=False)
    support = F.grid_sample(ones.double(), grid, align_corners=False)
    expected = F.grid_sample(image.double(), grid, align_corners=False) / support.clamp_min(0.5)
    valid = out["valid"].expand_as(image)
    assert (out["valid"] == (support >= 0.5))[(support - 0.5).abs() > 1e-3].all()
    assert (out["image"] - expected)[valid].abs().max() < 2e-5


def test_executors_are_named() -> None:
    with pytest.raises(ConfigurationError, match="'cuda' is not one of 'auto', 'torch', 'cpu', 'triton'"):
        Compose([], executor="cuda")  # type: ignore[arg-type]


def test_an_executor_of_another_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "_interpreted", lambda: False)
    with pytest.raises(ConfigurationError, match="executor='triton' runs on cuda tensors; this batch is on cpu"):
        Compose([], executor="triton")(tiles())


def test_the_environment_chooses_for_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOAUG_EXECUTOR", "torch")
    assert executors.executor_for("auto", torch.device("cpu")) is executors.portable.execute
    monkeypatch.setenv("GEOAUG_EXECUTOR", "numba")
    with pytest.raises(ConfigurationError, match="GEOAUG_EXECUTOR=numba is not one of auto, torch, cpu, triton"):
        executors.executor_for("auto", torch.device("cpu"))


def without(package: str, code: str) -> subprocess.CompletedProcess[str]:
    hidden = f"import sys; sys.modules['{package}'] = None\n{code}"
    environment = {name: value for name, value in os.environ.items() if name != "GEOAUG_EXECUTOR"}
    return subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
def test_without_numba_plain_torch_serves() -> None:
    code = (
        "import torch\nfrom geoaug import Compose\nfrom geoaug.augment import RandomRotation\n"
        "batch = {'image': torch.rand(2, 3, 9, 9)}\n"
        "print(Compose([RandomRotation(9)])(batch)['image'].shape)\n"
        "Compose([], executor='cpu')(batch)"
    )
    run = without("numba", code)
    assert "torch.Size([2, 3, 9, 9])" in run.stdout
    assert "executor='cpu' needs numba" in run.stderr


class Waits(TorchDispatchMode):
    """Notes whatever would copy between host and device, or wait to look at a value."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given, name = kwargs or {}, str(func)
        devices = {part.device.type for part in args if isinstance(part, Tensor) and part.dim()}
        wanted = given.get("device")
        if "_to_copy" in name and wanted is not None:
            devices.add(torch.device(wanted).type)
        copies = any(word in name for word in ("_to_copy", "copy_")) and len(devices) > 1
        if copies or any(word in name for word in ("_local_scalar_dense", "nonzero", "masked_select", "unique")):
            where = [
                f"{f.filename.split('/')[-1]}:{f.lineno}" for f in traceback.extract_stack() if "geoaug/" in f.filename
            ]
            self.seen.append(f"{name} at {where[-2:]}")
        return func(*args, **given)


class Recorded:
    """Stands in for the Triton kernel, which cannot be launched without a device."""

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *arguments, **constants: None


@cache
def imagines_devices() -> bool:
    """Whether torch makes such tensors without asking the driver; older releases do ask."""
    try:
        with FakeTensorMode():
            torch.tensor((1.0,), device="cuda")[:, None].expand(1, 2)
    except RuntimeError:
        return False
    return True


QUICK = ("RandomAffine",)


@pytest.mark.parametrize(
    ("name", "executor"),
    [
        *(
            pytest.param(name, "torch", marks=[pytest.mark.slow] * (name not in QUICK))
            for name in (*sorted(own_operations()), *preset_names())
        ),
        # Operations are planned the same way for it; what it does itself, these have all of.
        *(
            pytest.param(name, "triton", marks=pytest.mark.slow)
            for name in ("RandAugment", "strong", "aerial-rgb", "sentinel-1")
        ),
    ],
)
def test_nothing_waits_for_a_device_that_is_only_imagined(
    name: str, executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors without contents, said to lie on a CUDA device: who looks at a value fails, copies are noted."""
    if not imagines_devices():
        pytest.skip("this torch asks the driver even for tensors without contents")
    if executor == "triton":
        tritonic = pytest.importorskip("geoaug.augment.kernels.tritonic")
        for kernel in ("fused", "draw_lattice"):
            monkeypatch.setattr(tritonic, kernel, Recorded())
    if name in own_operations():
        kind = own_operations()[name]
        radar = getattr(kind, "domain", None) == "sar"
        more = {"p": 0.7} if "p" in inspect.signature(kind).parameters else {}
        picture = getattr(kind, "for_pictures", False)
        sensor = PICTURE if picture else RADAR if radar else FEW
        compose = Compose([kind(**ARGUMENTS.get(name, {}), **more)], sensor=sensor)
    else:
        radar, picture = name == "sentinel-1", name in PICTURE_PRESETS
        sensor = PICTURE if picture else RADAR if radar else FEW
        compose = load_recipe(name).compose(sensor=sensor)
    compose.executor = executor  # type: ignore[assignment]
    given = tiles(bands=len(sensor.bands), radar=radar, picture=picture)
    forget()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            batch = {key: torch.empty_like(value, device="cuda") for key, value in given.items()}
            if not radar:
                batch["image"] = torch.empty(batch["image"].shape, device="cuda")
            compose(batch)  # what is constant goes to the device once
            with Waits() as waits:
                out = compose(batch)
        assert out["image"].device.type == "cuda"
        assert not waits.seen
    finally:
        forget()


@contextmanager
def nothing_synchronises() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("executor", ["torch", "triton"])
@pytest.mark.parametrize("name", [name for name in preset_names() if name != "sentinel-1"])
def test_nothing_waits_for_the_device(name: str, executor: str) -> None:
    picture = name in PICTURE_PRESETS
    sensor = PICTURE if picture else OPTICAL
    compose = load_recipe(name).compose(sensor=sensor)
    compose.executor = executor  # type: ignore[assignment]
    batch = {key: value.cuda() for key, value in tiles(bands=len(sensor.bands), picture=picture).items()}
    compose(batch)
    torch.cuda.synchronize()
    with nothing_synchronises():
        compose(batch)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_graph_replays_it() -> None:
    compose = load_recipe("sentinel-2-segmentation").compose(sensor=OPTICAL)
    batch = {key: value.cuda() for key, value in tiles().items()}
    expected = compose(batch)["image"]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        compose(batch)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = compose(batch)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(out["image"], expected)


@pytest.mark.parametrize("executor", ["torch", CPU])
def test_a_sample_of_haze_and_noise_does_not_depend_on_its_batch(executor: str) -> None:
    """Where some samples of a batch have haze, the others go through the same sums as by themselves."""
    compose = Compose(
        [RandomHaze(p=0.5), RandomSensorNoise(p=0.7)], sensor=OPTICAL, out_dtype=None, out_units="dn", executor=executor
    )
    batch = tiles(8, height=40, width=40)
    whole = compose(batch)["image"].view(torch.int16)
    for sample in range(8):
        alone = compose({name: value[sample : sample + 1] for name, value in batch.items()})["image"]
        assert torch.equal(alone[0].view(torch.int16), whole[sample]), sample

"""Draws the gallery: every operation at three strengths on a made scene, and the page that shows the pictures.

uv run python docs/build_gallery.py                     # writes docs/gallery.md and docs/images/gallery/
uv run python docs/build_gallery.py --only RandomHaze   # one picture
"""

from __future__ import annotations

import argparse
import inspect
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

from geoaug import Compose, get_sensor
from geoaug.augment import RandomCloud, RandomCloudShadow
from geoaug.augment.physics.display import display_of
from geoaug.augment.registry import own_operations
from geoaug.data.synthetic.made_scene import make_scene
from geoaug.rng.draws import sample_keys

HERE = Path(__file__).parent
STRENGTHS = (0.33, 0.67, 1.0)
SIDE, ZOOM = 256, 48
OPTICAL, RADAR = get_sensor("sentinel-2-l1c"), get_sensor("sentinel-1-power")
# The made scene as a camera would show it, from black to a white of 0.3.
PICTURE = replace(
    get_sensor("rgb"), bands=tuple(replace(band, black=0.03, white=0.3) for band in get_sensor("rgb").bands)
)
SUN_AZIMUTH, SUN_ELEVATION = 150.0, 40.0

FAMILIES = {
    "geometric": "Geometry",
    "atmosphere": "Atmosphere",
    "clouds": "Clouds and shadows",
    "illumination": "Light and calibration",
    "sun": "The sun",
    "optics": "Optics",
    "display": "Pictures made for the eye",
    "detector": "Detector and bands",
    "sensor_noise": "Noise of the detector",
    "sar": "Radar",
    "policies": "Policies",
}
# Arguments where an operation needs some, or where the usual ones would show nothing: rare draws made certain.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "RandomRotation": {"degrees": (40, 40)},
    "RandomAffine": {"degrees": (20, 20), "scale": (1.3, 1.3), "shear": (8, 8)},
    "RandomCrop": {"size": 128},
    "CenterCrop": {"size": 128},
    "PadTo": {"size": 320},
    "Resize": {"size": (128, 256)},
    "RandomResizedCrop": {"size": 256, "scale": (0.2, 0.6)},
    "RandomHaze": {"aod": (0.6, 0.6), "gradient": (0.5, 0.5)},
    "RandomWaterVapour": {"column": (4.0, 4.0)},
    "RandomCloud": {"coverage": (0.35, 0.35), "cirrus": 0.0},
    "RandomCloudShadow": {"coverage": (0.35, 0.35)},
    "RandomIllumination": {"gain": (1.18, 1.18)},
    "RandomCalibration": {},
    "RandomSwathBrightness": {"amplitude": (0.1, 0.1), "swath_m": 2600.0},
    "RandomSunElevation": {"change": (-15, -15)},
    "RandomTerrainShading": {"turn": (40, 40), "change": (-15, -15)},
    "RandomPointSpread": {"mtf": (0.1, 0.1)},
    "RandomResolution": {"factor": (3.0, 3.0)},
    "RandomWhiteBalance": {"mired": (30.0, 30.0), "tint": 0.0},
    "RandomTone": {"gamma": (0.9, 0.9), "contrast": (0.4, 0.4)},
    "RandomSharpening": {"amount": (1.5, 1.5), "radius": (1.0, 1.0)},
    "RandomJPEG": {"quality": (30, 30)},
    "RandomBandShift": {"sigma": (0.5, 0.5)},
    "RandomSensorNoise": {"factor": (3.0, 3.0)},
    "RandomStriping": {"sigma": (0.02, 0.02)},
    "RandomLineDropout": {"share": (0.04, 0.04)},
    "RandomSaturation": {"level": (0.15, 0.15)},
    "RandomQuantization": {"bits": (5, 5)},
    "RandomBandDropout": {"max_bands": 3},
    "RandomSpeckle": {"looks": (1.0, 1.0)},
    "RandomThermalNoise": {"nesz_db": (-18, -18)},
    "RandomIncidenceAngle": {"change": (8, 8)},
}
REMARKS = {
    "RandomHaze": "Aerosol of 0.6 with a gradient of a half.",
    "RandomWaterVapour": "The band at 945 nm, from 1.5 to 4 g/cm2; visible bands stay.",
    "RandomCloud": "Below, its labels: thick cloud orange, thin cloud yellow.",
    "RandomCloudShadow": "Below, its labels: shadow violet.",
    "RandomSwathBrightness": "A swath as narrow as the tile, to make the ramp visible.",
    "RandomBandShift": "Five times the default, to make it visible. Below, enlarged.",
    "RandomSensorNoise": "Three times the sensor's own noise. Below, enlarged, and B01, whose pixels are 60 m.",
    "RandomStriping": "Gains of 2 %, four times the default, to make them visible. Below, enlarged, and B01.",
    "RandomWhiteBalance": "30 mired, half as much again as the default.",
    "RandomTone": "Lighter, with more contrast than the default has.",
    "RandomSharpening": "Twice the default's share of the detail. Below, enlarged.",
    "RandomJPEG": "Quality 30 at strength 1, far below the default's 70. Below, enlarged.",
    "RandomSaturation": "A ceiling at 0.15, to make it visible.",
    "RandomQuantization": "Five bits, to make the steps visible. Below, enlarged, and B01.",
    "RandomTerrainShading": "Made hills; the sun turns by 40 degrees and sinks by 15.",
    "RandomThermalNoise": "-18 dB, to make it visible.",
}
ENLARGED = {
    "RandomPointSpread",
    "RandomResolution",
    "RandomBandShift",
    "RandomSensorNoise",
    "RandomStriping",
    "RandomLineDropout",
    "RandomQuantization",
    "RandomSpeckle",
    "RandomSharpening",
    "RandomJPEG",
}
# Also shown in B01, whose pixels of 60 m are wider than those of the tile.
COARSE = {"RandomSensorNoise", "RandomStriping", "RandomLineDropout", "RandomQuantization"}
LABELLED = {"RandomCloud", "RandomCloudShadow"}
SEEDS = {"RandomCloud": 7, "RandomCloudShadow": 7, "RandomBandDropout": 5}
LABEL_COLOURS = np.array([[0.93, 0.93, 0.93], [0.90, 0.45, 0.10], [0.98, 0.85, 0.35], [0.45, 0.25, 0.65]])


@cache
def optical_scene() -> Tensor:
    """Thirteen bands of a made Sentinel-2 scene, digital numbers."""
    image = make_scene(size=512, seed=3).image[:, 100 : 100 + SIDE, 100 : 100 + SIDE]
    return torch.from_numpy(image.astype(np.int32)).to(torch.uint16)[None]


@cache
def radar_scene() -> Tensor:
    """Backscatter of the same landscape by its classes, with 4.4 looks of speckle."""
    labels = make_scene(size=512, seed=3).labels[100 : 100 + SIDE, 100 : 100 + SIDE]
    rng = np.random.default_rng(0)
    decibels = rng.permutation(np.linspace(-20, -5, 256))
    decibels[0], decibels[1], decibels[2], decibels[8] = -22, -8, -9, -2
    power = 10 ** (decibels[labels] / 10)
    both = np.stack((power, power / 5)) * rng.gamma(4.4, 1 / 4.4, (2, SIDE, SIDE))
    return torch.from_numpy(both.astype(np.float32))[None]


@cache
def picture() -> Tensor:
    """The scene's colours in 8 bits, along the curve of sRGB."""
    reflectance = optical_scene()[:, [3, 2, 1]].float() / 10000
    black, white = PICTURE.bands[0].black, PICTURE.bands[0].white
    return (255 * display_of((reflectance - black) / (white - black))).round().clamp(0, 255).to(torch.uint8)


def elevations() -> Tensor:
    """Hills under the optical scene, metres."""
    y, x = torch.meshgrid(torch.arange(SIDE).float(), torch.arange(SIDE).float(), indexing="ij")
    return (60 * torch.sin(x / 21 + 1) * torch.cos(y / 27) + 20 * torch.sin((x + y) / 13))[None, None]


def operation_of(name: str, strength: float | None) -> nn.Module:
    """The operation as the gallery shows it."""
    kind = own_operations()[name]
    known = inspect.signature(kind).parameters
    more: dict[str, Any] = {"p": 1.0} if "p" in known else {}
    if strength is not None:
        more["strength"] = strength
    return kind(**ARGUMENTS.get(name, {}), **more)


def has_strength(name: str) -> bool:
    """Whether strength means something for the operation."""
    kind = own_operations()[name]
    return bool(getattr(kind, "neutral", None)) or "weakened" in vars(kind)


def is_picture(name: str) -> bool:
    """Whether the operation is for pictures of 8 bits alone."""
    return bool(getattr(own_operations().get(name), "for_pictures", False))


def augmented(
    operations: list[nn.Module], radar: bool, seed: int, dem: bool = False, shown_as_picture: bool = False
) -> dict[str, Any]:
    """The scene through a list of operations."""
    batch: dict[str, Any] = {
        "image": radar_scene() if radar else picture() if shown_as_picture else optical_scene(),
        "key": sample_keys(seed, [0]),
        "sun_azimuth": torch.tensor([SUN_AZIMUTH]),
        "sun_elevation": torch.tensor([SUN_ELEVATION]),
    }
    if dem:
        batch["dem"] = elevations()
    # The made scene has the nearest pixel of its coarse bands, counted from its own corner.
    batch["transform"] = torch.tensor([[10.0, 0, 1000, 0, -10, -1000]], dtype=torch.float64)
    sensor = RADAR if radar else PICTURE if shown_as_picture else OPTICAL
    return Compose(operations, sensor=sensor, fill=float("nan"), band_resampling="nearest")(batch)


def shown(image: Tensor, radar: bool, name: str) -> np.ndarray:
    """Pixels for a picture, under one stretch for all."""
    if radar:
        grey = (10 * image[0].clamp_min(1e-4).log10() + 27) / 30
        rgb = grey[..., None].expand(-1, -1, 3)
    elif name == "RandomWaterVapour":
        rgb = (image[OPTICAL.index("B09")] / 0.15)[..., None].expand(-1, -1, 3)
    elif is_picture(name):
        rgb = image.movedim(0, -1)
    else:
        rgb = (image[[3, 2, 1]].movedim(0, -1) / 0.25).clamp_min(0) ** 0.8
    return np.where(np.isfinite(rgb.numpy()), rgb.clamp(0, 1).numpy(), 0.75)


def draw(name: str, path: Path) -> None:
    """The picture of an operation."""
    radar = getattr(own_operations()[name], "domain", None) == "sar"
    seed, dem = SEEDS.get(name, 1), name == "RandomTerrainShading"
    shows = is_picture(name)
    plain = augmented([], radar, seed, shown_as_picture=shows)["image"][0]
    if has_strength(name):
        outs = [augmented([operation_of(name, strength)], radar, seed, dem, shows) for strength in STRENGTHS]
        titles = ["original", *(f"strength {strength:g}" for strength in STRENGTHS)]
    else:
        outs = [augmented([operation_of(name, None)], radar, seed + more, False, shows) for more in range(3)]
        titles = ["original", "one draw", "another", "a third"]
    panels(path, titles, [plain, *(out["image"][0] for out in outs)], outs, radar, name)


def panels(
    path: Path, titles: list[str], images: list[Tensor], outs: list[dict[str, Any]], radar: bool, name: str
) -> None:
    """Images side by side; beneath them their labels, or a corner enlarged."""
    below = name in ENLARGED or name in LABELLED
    rows = 3 if name in COARSE else 2 if below else 1
    figure, axes = plt.subplots(rows, len(images), figsize=(2.3 * len(images), 2.3 * rows + 0.3), squeeze=False)
    for column, (title, image) in enumerate(zip(titles, images, strict=True)):
        axes[0, column].imshow(shown(image, radar, name), interpolation="nearest")
        axes[0, column].set_title(title, fontsize=9)
        if name in ENLARGED:
            corner = image[:, 110 : 110 + ZOOM, 110 : 110 + ZOOM]
            axes[1, column].imshow(shown(corner, radar, name), interpolation="nearest")
            if name in COARSE:
                band = OPTICAL.index("B01")
                low, high = np.nanquantile(images[0][band], [0.01, 0.99])
                axes[2, column].imshow(corner[band], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        elif name in LABELLED:
            cloud = torch.zeros(SIDE, SIDE, dtype=torch.uint8) if column == 0 else outs[column - 1]["cloud"][0]
            axes[1, column].imshow(LABEL_COLOURS[cloud.numpy()], interpolation="nearest")
    for axis in axes.flat:
        axis.set_axis_off()
    figure.tight_layout(pad=0.4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, pil_kwargs={"quality": 85})
    plt.close(figure)


def draw_weather(path: Path) -> None:
    """Clouds with their shadows, and the way to the sun."""
    outs = []
    for seed in (7, 11, 23, 31):
        clouds = RandomCloud((0.2, 0.35), cirrus=0.0, height_m=(500, 900), p=1.0)
        outs.append(augmented([RandomCloudShadow(p=1.0), clouds], False, seed))
    panels(path, ["clouds and shadows", "", "", ""], [out["image"][0] for out in outs], outs, False, "weather")


def page() -> str:
    """The text of the gallery."""
    operations = own_operations()
    lines = [
        "# Gallery",
        "",
        "Every operation on a made Sentinel-2 scene (level 1C, 2.56 km across; true colour, one stretch for all), or",
        "on made Sentinel-1 backscatter (dB); what is for pictures alone, on its colours in 8 bits.",
        "One draw at three strengths: 1 is the draw as it comes, usually the edge",
        "of the default range; what is stronger, to be visible, is said. `docs/build_gallery.py` draws it.",
    ]
    homes = dict.fromkeys(kind.__module__.rpartition(".")[2] for kind in operations.values())
    families = FAMILIES | {home: home.replace("_", " ").capitalize() for home in homes if home not in FAMILIES}
    for home, title in families.items():
        lines += ["", f"## {title}"]
        for name, kind in operations.items():
            if kind.__module__.rpartition(".")[2] != home:
                continue
            first = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
            remark = f" {REMARKS[name]}" if name in REMARKS else ""
            lines += ["", f"### {name}", "", f"{first}{remark}", "", f"![{name}](images/gallery/{name}.jpg)"]
        if home == "clouds":
            lines += [
                "",
                "### Both together",
                "",
                f"The sun stands at an azimuth of {SUN_AZIMUTH:g} degrees (lower right), {SUN_ELEVATION:g} degrees "
                "high: shadows fall to the upper left.",
                "",
                "![clouds and shadows](images/gallery/weather.jpg)",
            ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE, help="the folder that gets gallery.md and images/")
    parser.add_argument("--only", choices=(*own_operations(), "weather"))
    options = parser.parse_args()
    pictures = options.output / "images" / "gallery"
    for name in own_operations():
        if options.only in (None, name):
            draw(name, pictures / f"{name}.jpg")
    if options.only in (None, "weather"):
        draw_weather(pictures / "weather.jpg")
    (options.output / "gallery.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

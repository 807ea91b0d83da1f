"""Clouds over a tile, and their shadows on it: one random field, seen from above and from the sun.

The field is in `cloud_field`, the optics of drops, crystals and skylight in `cloud_optics`; here the weather is drawn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Unpack, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.augment.operations.base import RadiometricOperation, RadiometricOptions, Range, TileShape, as_range
from geoaug.augment.physics.air import centres_nm, path_of_clear_air, rayleigh_optical_depth, wavelengths_nm
from geoaug.augment.physics.cloud_field import FARTHEST, WIDEST, CloudField, CloudShade, CloudVeil, CloudViews
from geoaug.augment.physics.cloud_optics import cloud_spectrum, shadow_gain
from geoaug.augment.planning.matrices import rotation
from geoaug.augment.planning.plan import Params
from geoaug.augment.planning.segments import Affine, Annotation, Modulation, OperationSegment, ThickCloud
from geoaug.augment.planning.terms import Terms
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import Draws
from geoaug.sensors import Sensor
from geoaug.small_arrays import constant

# Classes of the `cloud` labels, as in CloudSEN12 (Aybar et al., 2022, Scientific Data 9): 0 is clear.
THICK_CLOUD, THIN_CLOUD, CLOUD_SHADOW = 1, 2, 3

# Share of the ground's light that a cloud hides from which it is called thin, and thick.
_THIN, _THICK = 0.1, 0.6
# Share of the direct sun taken from which it is called shadow.
_SHADED = 0.3

# Of the light that meets drops and ice crystals, the share scattered backwards: 1 - g with g of 0.85 and 0.78
# (Hess, Koepke and Schult, 1998; Baum et al., 2005).
_BACKWARDS_WATER, _BACKWARDS_ICE = 0.15, 0.22

# Scale below which clouds look smooth (Davis et al., 1997: 200 to 400 m).
_SMOOTHED_M = 300.0
# Metres to a pixel where neither the batch nor the sensor tells.
_DEFAULT_GSD_M = 10.0
_LONGEST_STREAK = 4.0
# Subvisible below 0.03, thin to 0.3, opaque beyond (Sassen and Cho, 1992). Veils stretch over tens of kilometres.
# Degrees between the track and north: `sin = cos(inclination) / cos(latitude)`, 98.6 degrees for orbits that keep pace
# with the sun, from the equator to 60 degrees.
_TRACK = (8.5, 17.5)
_CIRRUS_THICKNESS, _CIRRUS_SIZE_M = (0.03, 1.0), (5000.0, 40_000.0)


@dataclass(frozen=True, slots=True)
class Weather:
    """Ranges that the clouds of a sample are drawn from.

    Attributes:
        coverage: share of the sky under cloud, on average over many tiles.
        thickness: optical thickness of water clouds where the field is one deviation above the threshold.
        cirrus: probability that the cloud is ice.
        cirrus_thickness: optical thickness of ice clouds, likewise.
        size_m: size of the largest water clouds in metres.
        cirrus_size_m: of the largest veils of ice, likewise.
        height_m: of the base of water clouds over the ground, metres.
        cirrus_height_m: of ice clouds, likewise.
    """

    coverage: Range
    thickness: Range
    cirrus: float
    cirrus_thickness: Range
    size_m: Range
    cirrus_size_m: Range
    height_m: Range
    cirrus_height_m: Range

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        """The clouds of every row."""
        ice = draws.chance(self.cirrus)
        streak = draws.uniform(1.5, _LONGEST_STREAK)

        def either(water: Tensor, frozen: Tensor) -> Tensor:
            return torch.where(ice > 0, frozen, water)

        gsd = torch.full_like(ice, _DEFAULT_GSD_M) if shape.gsd_m is None else shape.gsd_m.to(ice)
        return {
            "seed": draws.seeds(),
            "ice": ice,
            "coverage": draws.uniform(*self.coverage),
            "thickness": either(draws.log_uniform(*self.thickness), draws.log_uniform(*self.cirrus_thickness)),
            "size_m": either(draws.log_uniform(*self.size_m), draws.log_uniform(*self.cirrus_size_m)),
            "height_m": either(draws.uniform(*self.height_m), draws.uniform(*self.cirrus_height_m)),
            "streak": either(torch.ones_like(streak), streak),
            "direction": draws.uniform(0.0, 180.0),
            "gsd_m": gsd,
        }


def cloud_field(params: Params) -> CloudField:
    """The field of drawn clouds."""
    turn = rotation(params["direction"].double())
    narrow = params["streak"].double()
    drawn_out = torch.stack((torch.ones_like(narrow) / narrow.sqrt(), narrow.sqrt()), dim=-1)
    linear = torch.diag_embed(drawn_out) @ turn
    threshold = torch.special.ndtri(1 - params["coverage"].double().clamp(1e-9, 1 - 1e-9))
    backwards = _backwards(params)
    outer = (params["size_m"] / params["gsd_m"]).clamp_min(2.0)
    return CloudField(
        params["seed"], outer, _SMOOTHED_M / params["gsd_m"], linear, threshold, backwards * params["thickness"]
    )


def _backwards(params: Params) -> Tensor:
    return torch.where(params["ice"] > 0, _BACKWARDS_ICE, _BACKWARDS_WATER)


def cloud_views(params: Params, shape: TileShape, sensor: Sensor) -> CloudViews | None:
    """How the bands of a sensor see drawn clouds; None where all see them in one way, as far as is known."""
    sides = sorted({band.gsd_m for band in sensor.bands if band.gsd_m is not None}) or [_DEFAULT_GSD_M]
    if len(sides) == 1 and "track" not in params:
        return None
    gsd, device = params["gsd_m"].double()[:, None], params["gsd_m"].device
    group = tuple(0 if band.gsd_m is None else sides.index(band.gsd_m) for band in sensor.bands)
    side = (constant(tuple(sides), torch.float64, device) / gsd).round().clamp(1, WIDEST).long()
    if "track" not in params:
        nowhere = torch.zeros(len(gsd), len(group), 2, dtype=torch.int64, device=device)
        return CloudViews(nowhere, side, group)
    known = [band.parallax for band in sensor.bands if band.parallax is not None]
    middle = (min(known) + max(known)) / 2
    # About the middle of all, so that clouds stay over their shadows.
    apart = constant(
        tuple(0.0 if band.parallax is None else band.parallax - middle for band in sensor.bands), torch.float64, device
    )
    pixels = apart * (params["height_m"].double() * params["detector"].double())[:, None] / gsd
    beside = pixels[..., None] * _along_track(params["track"].double(), shape)[:, None]
    return CloudViews(beside.round().clamp(-FARTHEST, FARTHEST).long(), side, group)


def _along_track(track: Float[Tensor, " r"], shape: TileShape) -> Float[Tensor, "r 2"]:
    """Directions on the tile, x and y, that lie so many degrees off the columns of the image as it was read."""
    angle = torch.deg2rad(track)
    x, y = angle.sin(), angle.cos()
    if shape.source is not None:
        (a, b), (c, d) = (row.unbind(1) for row in shape.source[..., :2].to(track).unbind(1))
        x, y = d * x - b * y, a * y - c * x
    along = torch.stack((x, y), dim=-1)
    return torch.nn.functional.normalize(along, dim=-1)


class _Weathered(RadiometricOperation):
    """What clouds and their shadows share: the weather, and a scale of strength over it."""

    needs_sensor = True
    neutral: ClassVar = {"coverage": 0.0, "thickness": 0.0}

    def __init__(self, weather: Weather, **options: Unpack[RadiometricOptions]) -> None:
        super().__init__(**options)
        self.weather = weather
        self.flags = {name: getattr(weather, name) for name in weather.__slots__}


def _weather(
    coverage: float | Sequence[float],
    thickness: float | Sequence[float],
    cirrus: float,
    cirrus_thickness: float | Sequence[float],
    size_m: float | Sequence[float],
    cirrus_size_m: float | Sequence[float],
    height_m: float | Sequence[float],
    cirrus_height_m: float | Sequence[float],
) -> Weather:
    if not 0 <= cirrus <= 1:
        raise ConfigurationError(f"cirrus={cirrus} is a probability within [0, 1]", argument="cirrus")
    return Weather(
        as_range(coverage, "coverage", low=0, high=1),
        as_range(thickness, "thickness", low=1e-3, high=500),
        float(cirrus),
        as_range(cirrus_thickness, "cirrus_thickness", low=1e-3, high=50),
        as_range(size_m, "size_m", low=1e-2, high=1e6),
        as_range(cirrus_size_m, "cirrus_size_m", low=1e-2, high=1e6),
        as_range(height_m, "height_m", low=0, high=20_000),
        as_range(cirrus_height_m, "cirrus_height_m", low=0, high=20_000),
    )


class RandomCloud(_Weathered):
    """Clouds between ground and sensor: bright, white, hiding the ground where thick; or veils of thin, streaky cirrus.

    A field with the spectrum of turbulence makes their shape; where it exceeds a threshold there is cloud, the thicker
    the more. Reflectance is two-stream (`cloud_field`), band by band with the absorption of drops or crystals and of
    the vapour above them (`cloud_optics`), so cirrus is brightest against its ground at 1375 nm, where low clouds are
    dark. Clear air beside a cloud glows in its scattered light, bluely (Marshak et al., 2008, Journal of Geophysical
    Research 113). Their classes come back as `cloud`: 1 thick, 2 thin.

    Ground under thin cloud loses sharpness: light that is scattered forwards on its way up comes from all around. Each
    band sees the cloud averaged over its own pixels (`Band.gsd_m`), and from its own angle (`Band.parallax`): high
    clouds lie more than a pixel apart in Sentinel-2's (Skakun et al., 2018, IEEE Geoscience and Remote Sensing Letters
    15), one way or the other by the detector that saw them.

    With a `RandomCloudShadow` in the same list, that is the shadow of these clouds.

    Args:
        coverage: range of the share of the sky under cloud; single tiles have more or less of it.
        thickness: range of the optical thickness of water clouds where they are well developed; 5 lets the ground
            through, 40 does not. Its logarithm is uniform.
        cirrus: probability that a sample's clouds are cirrus.
        cirrus_thickness: range of their optical thickness, likewise: from thin (0.03) to that which still lets the
            ground through (Sassen and Cho, 1992, Journal of Applied Meteorology 31).
        size_m: range of the size of the largest water clouds, metres on the ground; its logarithm is uniform.
        cirrus_size_m: that of veils of cirrus.
        height_m: range of the height of water clouds over the ground, metres; it tells where their shadow falls, and
            how far apart bands see them.
        cirrus_height_m: that of cirrus.
        thick_cloud: what becomes of pixels under thick cloud: "ignore" sets their labels to `ignore_index`, "invalid"
            makes them invalid, "keep" leaves both. In a time series a label is ignored, and a pixel invalid, where all
            dates are under thick cloud.
        **options: see `RadiometricOptions`.
    """

    def __init__(
        self,
        coverage: float | Sequence[float] = (0.05, 0.4),
        thickness: float | Sequence[float] = (5.0, 40.0),
        cirrus: float = 0.25,
        cirrus_thickness: float | Sequence[float] = _CIRRUS_THICKNESS,
        size_m: float | Sequence[float] = (400.0, 4000.0),
        cirrus_size_m: float | Sequence[float] = _CIRRUS_SIZE_M,
        height_m: float | Sequence[float] = (500.0, 2500.0),
        cirrus_height_m: float | Sequence[float] = (6000.0, 11_000.0),
        thick_cloud: ThickCloud = "ignore",
        **options: Unpack[RadiometricOptions],
    ) -> None:
        weather = _weather(
            coverage, thickness, cirrus, cirrus_thickness, size_m, cirrus_size_m, height_m, cirrus_height_m
        )
        super().__init__(weather, **options)
        if thick_cloud not in get_args(ThickCloud):
            raise ConfigurationError(
                f"thick_cloud={thick_cloud!r} is one of {', '.join(get_args(ThickCloud))}", argument="thick_cloud"
            )
        self.thick_cloud: ThickCloud = thick_cloud
        self.flags = {**self.flags, "thick_cloud": thick_cloud}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        params = self.weather.draw(draws, shape)
        if shape.sensor is not None and len({band.parallax for band in shape.sensor.bands} - {None}) > 1:
            # Neighbouring detectors see a place in the opposite order of bands.
            params |= {"track": draws.uniform(*_TRACK), "detector": 2 * draws.chance(0.5) - 1}
        return params

    def segments(self, params: Params, shape: TileShape) -> tuple[OperationSegment, ...]:
        sensor = shape.sensor
        assert sensor is not None  # check_sensor has refused its absence
        wavelength = wavelengths_nm(sensor, params["ice"].device)
        water, ice = cloud_spectrum(wavelength)
        spectrum = torch.where(params["ice"][:, None] > 0, ice, water)
        # Clear air glows as it scatters: half of Rayleigh's optical depth goes up; a tenth of it is lit from the side.
        glow = (0.05 * rayleigh_optical_depth(wavelength)).expand_as(spectrum) * (params["ice"][:, None] == 0)
        none = torch.zeros_like(spectrum)
        views = cloud_views(params, shape, sensor)
        # Of light that passes twice, what is not reflected is left each time.
        limits = tuple(1 - math.sqrt(1 - hidden) for hidden in (_THIN, _THICK))
        veil = Modulation(
            CloudVeil(cloud_field(params), 0.5 / _backwards(params).double(), none + 1, none, views),
            gain=torch.stack((none - 1, none, none, none), dim=-1),
            offset=torch.stack((none, spectrum, glow, none + 1), dim=-1),
            applied=torch.ones_like(params["ice"], dtype=torch.bool),
            annotation=Annotation(limits, (THIN_CLOUD, THICK_CLOUD), index=1, thick=self.thick_cloud),
        )
        return (Affine(Terms.nothing_to(spectrum), veil),)


class RandomCloudShadow(_Weathered):
    """The shadow of clouds: direct sunlight taken away, and skylight left, so most is lost in the long wavelengths.

    With a `RandomCloud` in the same list it is the shadow of those clouds and falls where they stand in the sun's way:
    `height * tan(sun zenith)` from below them, away from the sun, whose angles come from the sample where it has them
    and are drawn otherwise. Alone it is the shadow of clouds beyond the tile's edge. It lies beneath the clouds
    wherever it stands in the list. Its class in `cloud` is 3.

    The pattern of clouds repeats after 256 pixels, or half as much again as the tile, so a shadow that is thrown
    further than that falls in the wrong place.

    Args:
        sun_elevation: range that the sun's elevation is drawn from where the sample does not tell it, degrees.
        coverage: without clouds in the list; see `RandomCloud`, also for the following.
        thickness: likewise.
        cirrus: likewise.
        cirrus_thickness: likewise.
        size_m: likewise.
        cirrus_size_m: likewise.
        height_m: likewise.
        cirrus_height_m: likewise.
        **options: see `RadiometricOptions`.
    """

    follows = "RandomCloud"
    gated = True

    def __init__(
        self,
        sun_elevation: float | Sequence[float] = (25.0, 65.0),
        coverage: float | Sequence[float] = (0.05, 0.4),
        thickness: float | Sequence[float] = (5.0, 40.0),
        cirrus: float = 0.0,
        cirrus_thickness: float | Sequence[float] = _CIRRUS_THICKNESS,
        size_m: float | Sequence[float] = (400.0, 4000.0),
        cirrus_size_m: float | Sequence[float] = _CIRRUS_SIZE_M,
        height_m: float | Sequence[float] = (500.0, 2500.0),
        cirrus_height_m: float | Sequence[float] = (6000.0, 11_000.0),
        **options: Unpack[RadiometricOptions],
    ) -> None:
        weather = _weather(
            coverage, thickness, cirrus, cirrus_thickness, size_m, cirrus_size_m, height_m, cirrus_height_m
        )
        super().__init__(weather, **options)
        self.sun_elevation = as_range(sun_elevation, "sun_elevation", low=5, high=90)
        self.flags = {"sun_elevation": self.sun_elevation, **self.flags}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        weather = self.weather.draw(draws, shape)
        elevation, azimuth = draws.uniform(*self.sun_elevation), draws.uniform(0.0, 360.0)
        return {
            **weather,
            "sun_elevation": elevation if shape.sun_elevation is None else shape.sun_elevation.clamp(5, 90),
            "sun_azimuth": azimuth if shape.sun_azimuth is None else shape.sun_azimuth,
        }

    def following(self, params: Params, leader: Params) -> Params:
        # No cloud, no shadow; and its own chance on top.
        gate = params["batch_prob"] * leader["batch_prob"]
        return {**params, **leader, "batch_prob": gate}

    def segments(self, params: Params, shape: TileShape) -> tuple[OperationSegment, ...]:
        sensor = shape.sensor
        assert sensor is not None  # check_sensor has refused its absence
        left = shadow_gain(centres_nm(sensor), params["sun_elevation"].double())
        lost = (left - 1)[..., None]
        # The ground darkens; the air between the clouds and above them scatters as before.
        air = path_of_clear_air(sensor, left)
        shade = Modulation(
            CloudShade(cloud_field(params), shadow_offset(params)),
            gain=lost,
            offset=-lost * air[..., None],
            applied=torch.ones_like(params["ice"], dtype=torch.bool),
            annotation=Annotation((_SHADED,), (CLOUD_SHADOW,)),
        )
        return (Affine(Terms.nothing_to(left), shade),)


def shadow_offset(params: Params) -> Float[Tensor, "r 2"]:
    """From a shaded pixel to below the cloud that shades it, x and y in pixels: towards the sun."""
    zenith = torch.deg2rad(90 - params["sun_elevation"].double())
    distance = params["height_m"].double() * torch.tan(zenith) / params["gsd_m"].double()
    azimuth = torch.deg2rad(params["sun_azimuth"].double())
    return torch.stack((azimuth.sin(), -azimuth.cos()), dim=-1) * distance[:, None]

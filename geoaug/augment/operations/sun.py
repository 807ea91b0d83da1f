"""Another sun: higher or lower over level ground, or round the other side of the hills."""

from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.augment.operations.base import RadiometricOperation, RadiometricOptions, TileShape, as_range
from geoaug.augment.physics.aerosols import clear_aerosol
from geoaug.augment.physics.air import centres_nm, diffuse_over_direct, layer, wavelengths_nm
from geoaug.augment.physics.ground import reflectance
from geoaug.augment.physics.terrain import TerrainLight
from geoaug.augment.planning.plan import Params
from geoaug.augment.planning.segments import Affine, Modulation, OperationSegment
from geoaug.augment.planning.terms import Terms
from geoaug.rng.draws import Draws

_LOWEST, _HIGHEST = 10.0, 90.0
_TYPICAL_ELEVATION = 50.0
_DEFAULT_GSD_M = 10.0


class RandomSunElevation(RadiometricOperation):
    """The same ground under a higher or lower sun.

    Ground changes band by band as usual ground does by its Ross-Li kernels (`physics.ground`): under a lower sun there
    are more shadows, so from 50 to 25 degrees of elevation red and short-wave infrared lose a tenth. The air's path and
    transmittance follow from the sun, where a product has them in its pixels. Products whose reflectance was not
    divided by mu, the sine of the sun's elevation (Landsat level 1), darken by it too.

    Args:
        change: range of the change of the sun's elevation, degrees.
        sun_elevation: range of the elevation it changes from, where the sample does not tell it, degrees.
        **options: see `RadiometricOptions`.
    """

    needs_sensor = True
    neutral: ClassVar = {"change": 0.0}

    def __init__(
        self,
        change: float | Sequence[float] = (-15.0, 15.0),
        sun_elevation: float | Sequence[float] = (30.0, 65.0),
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.change = as_range(change, "change", low=-80, high=80)
        self.sun_elevation = as_range(sun_elevation, "sun_elevation", low=5, high=90)
        self.flags = {"change": self.change, "sun_elevation": self.sun_elevation}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        change, elevation = draws.uniform(*self.change), draws.uniform(*self.sun_elevation)
        params = {
            "change": change,
            "sun_elevation": elevation if shape.sun_elevation is None else shape.sun_elevation.clamp(5, 90),
        }
        for name, known in (("view_zenith", shape.view_zenith), ("relative_azimuth", shape.relative_azimuth)):
            if known is not None:
                params[name] = known
        return params

    def terms(self, params: Params, shape: TileShape) -> Terms:
        sensor = shape.sensor
        assert sensor is not None  # check_sensor has refused its absence
        before = params["sun_elevation"].double()
        after = (before + params["change"].double()).clamp(_LOWEST, _HIGHEST)
        after = torch.where(params["change"] == 0, before, after)
        view = params.get("view_zenith", torch.zeros_like(before)).double()
        azimuth = params.get("relative_azimuth", torch.full_like(before, 90.0)).double()
        centres = centres_nm(sensor)
        ground = reflectance(centres, 90 - after, view, azimuth) / reflectance(centres, 90 - before, view, azimuth)
        if sensor.level != "toa":
            return Terms(ground, torch.zeros_like(ground))
        wavelength, clear = wavelengths_nm(sensor, before.device), clear_aerosol(before, centres)
        old, new = (layer(wavelength, sun, clear, True, view, azimuth) for sun in (before, after))
        gain = ground * new.transmittance / old.transmittance
        if sensor.sun_corrected:
            return Terms(gain, new.path - gain * old.path)
        # Without the division by mu, both path and ground are mu times as bright.
        mu = torch.sin(torch.deg2rad(before))[:, None]
        ratio = torch.sin(torch.deg2rad(after))[:, None] / mu
        return Terms(gain * ratio, mu * ratio * (new.path - gain * old.path))


class RandomTerrainShading(RadiometricOperation):
    """Slopes lit by another sun: from the elevations under `dem` in the batch, by the C-correction turned round.

    `L' = L * (cos i' + C) / (cos i + C)`, relative to level ground (see `terrain_map`), where C is the light of the sky
    over that of the sun, so shaded slopes stay brighter in the blue. A batch without `dem` is left as it is: the
    ground counts as level.

    Args:
        turn: range by which the sun's azimuth changes, degrees.
        change: range by which its elevation changes, degrees.
        sun_elevation: range of the elevation it changes from, where the sample does not tell it, degrees.
        **options: see `RadiometricOptions`.
    """

    needs_sensor = True
    neutral: ClassVar = {"turn": 0.0, "change": 0.0}

    def __init__(
        self,
        turn: float | Sequence[float] = (-40.0, 40.0),
        change: float | Sequence[float] = (-15.0, 15.0),
        sun_elevation: float | Sequence[float] = (30.0, 65.0),
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.turn = as_range(turn, "turn", low=-360, high=360)
        self.change = as_range(change, "change", low=-80, high=80)
        self.sun_elevation = as_range(sun_elevation, "sun_elevation", low=5, high=90)
        self.flags = {"turn": self.turn, "change": self.change, "sun_elevation": self.sun_elevation}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        elevation, azimuth = draws.uniform(*self.sun_elevation), draws.uniform(0.0, 360.0)
        gsd = torch.full_like(elevation, _DEFAULT_GSD_M) if shape.gsd_m is None else shape.gsd_m.to(elevation)
        return {
            "turn": draws.uniform(*self.turn),
            "change": draws.uniform(*self.change),
            "sun_elevation": elevation if shape.sun_elevation is None else shape.sun_elevation.clamp(5, 90),
            "sun_azimuth": azimuth if shape.sun_azimuth is None else shape.sun_azimuth,
            "gsd_m": gsd,
        }

    def segments(self, params: Params, shape: TileShape) -> tuple[OperationSegment, ...]:
        sensor = shape.sensor
        assert sensor is not None  # check_sensor has refused its absence
        elevation, azimuth = params["sun_elevation"].double(), params["sun_azimuth"].double()
        later = (elevation + params["change"].double()).clamp(_LOWEST, _HIGHEST)
        later = torch.where(params["change"] == 0, elevation, later)
        clear = clear_aerosol(elevation, centres_nm(sensor))
        diffuse = diffuse_over_direct(wavelengths_nm(sensor, elevation.device), elevation, clear)
        light = TerrainLight(
            _towards(elevation, azimuth),
            _towards(later, azimuth + params["turn"].double()),
            diffuse,
            params["gsd_m"].double(),
        )
        one = torch.ones_like(diffuse)
        every = torch.ones_like(elevation, dtype=torch.bool)
        return (Affine(Terms.nothing_to(diffuse), Modulation(light, one[..., None], None, every)),)


def _towards(elevation: Float[Tensor, " b"], azimuth: Float[Tensor, " b"]) -> Float[Tensor, "b 3"]:
    """Unit vectors to the sun: right, down, up."""
    height, direction = torch.deg2rad(elevation), torch.deg2rad(azimuth)
    return torch.stack((height.cos() * direction.sin(), -height.cos() * direction.cos(), height.sin()), dim=-1)

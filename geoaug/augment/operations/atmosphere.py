"""Atmosphere: more aerosol or more vapour between the ground and the sensor than there was.

The optics are in `air`; here the weather is drawn, and what it changes in a product that may have been corrected for
the air already.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Unpack, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.augment.operations.base import RadiometricOperation, RadiometricOptions, TileShape, as_range
from geoaug.augment.physics.adjacency import Background, aerosol_share, mixed
from geoaug.augment.physics.aerosols import AEROSOLS, KIND_NAMES, aerosol_of, angstrom_exponents
from geoaug.augment.physics.air import (
    Layer,
    band_widths_nm,
    centres_nm,
    correlated_by_wavelength,
    layer,
    thickened,
    wavelengths_nm,
)
from geoaug.augment.physics.gases import ozone_depth, vapour_transmittance
from geoaug.augment.planning.maps import Ramp
from geoaug.augment.planning.plan import Params
from geoaug.augment.planning.segments import Affine, Modulation, OperationSegment
from geoaug.augment.planning.terms import Terms
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import Draws
from geoaug.sensors import Sensor
from geoaug.small_arrays import Numbers, constant, several_by_numpy

AerosolName = Literal["continental", "maritime", "dust", "smoke", "any"]

# Metres to a pixel where neither the batch nor the sensor tells.
_DEFAULT_GSD_M = 10.0


class RandomHaze(RadiometricOperation):
    """More aerosol in the air: contrast falls, and the short wavelengths gain path reflectance.

    `reflectance' = t * reflectance + p`, t and p from the aerosol optical depth at each band's wavelength (`air`).
    That is for ground of one colour; else diffuse light comes from the surroundings of a pixel (`adjacency`), and fine
    detail fades before large fields do.

    What that means depends on the product (`Sensor.level`):

    - top of atmosphere: aerosol is added to what is there; `t` is the quotient of two transmittances, and the path
      of the air's molecules stays as it is;
    - surface reflectance: a correction has taken the air off, whatever there was of it; what it leaves is its
      published uncertainty, that of the aerosol included: 0.005 + 0.05 reflectance (one deviation; the requirement
      for Sentinel-2 level 2A, Louis et al., 2016, ESA SP-740, and the specification of MODIS and Landsat surface
      reflectance, Vermote and Kotchenova, 2008, Journal of Geophysical Research 113), in a curve over the wavelength.
      `aod` does not apply; aerosol that the correction missed beyond that is `missed`;
    - unknown: aerosol over the ground, and nothing else.

    Bands of unknown wavelength are taken at 550 nm.

    Args:
        aod: range of the added aerosol optical depth at 550 nm: 0.1 is a clear day, 0.6 a hazy one. Not for surface
            reflectance.
        aerosol: "continental", "maritime", "dust", "smoke", or "any" of these for each sample.
        angstrom: range of the Angstrom exponent between 443 and 860 nm; None: about the aerosol's own (`aerosols`).
        sun_elevation: range of the sun's elevation where the sample does not tell it, degrees.
        present: aerosol optical depth that a top-of-atmosphere image has already.
        gradient: range of how much more of the aerosol lies at one edge of the tile than in its middle, as a fraction
            (and less at the other edge); 0 for none.
        residual: whether surface reflectance also gets the remainder of an imperfect correction.
        missed: range of the aerosol optical depth that the correction of surface reflectance missed, beside `residual`.
            Retrieved depths are wrong by 0.05 + 0.2 of them (one deviation; MODIS, Kaufman et al., 1997, Journal of
            Geophysical Research 102), or by 0.03 + 0.1 where level 2A of Sentinel-2 meets its requirement.
        adjacency: whether diffuse light comes from the surroundings of a pixel, as it does: fine detail loses more of
            its contrast than large fields (`physics.adjacency`). Without, each pixel is seen as if all were like it.
        **options: see `RadiometricOptions`.
    """

    needs_sensor = True
    neutral: ClassVar = {"aod": 0.0, "residual": 0.0}

    def __init__(
        self,
        aod: float | Sequence[float] = (0.0, 0.3),
        aerosol: AerosolName = "continental",
        angstrom: float | Sequence[float] | None = None,
        sun_elevation: float | Sequence[float] = (30.0, 65.0),
        present: float = 0.1,
        gradient: float | Sequence[float] = 0.0,
        residual: bool = True,
        missed: float | Sequence[float] = 0.0,
        adjacency: bool = True,
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.aod = as_range(aod, "aod", low=0, high=5)
        self.missed = as_range(missed, "missed", low=0, high=5)
        if aerosol not in get_args(AerosolName):
            raise ConfigurationError(
                f"aerosol={aerosol!r} is one of {', '.join(get_args(AerosolName))}", argument="aerosol"
            )
        self.aerosol = aerosol
        self.angstrom = None if angstrom is None else as_range(angstrom, "angstrom", low=-1, high=4)
        self.sun_elevation = as_range(sun_elevation, "sun_elevation", low=5, high=90)
        if not 0 <= present <= 5:
            raise ConfigurationError(f"present={present} is an optical depth within [0, 5]", argument="present")
        self.present = float(present)
        self.gradient = as_range(gradient, "gradient", low=0, high=1)
        self.residual = residual
        self.adjacency = adjacency
        self.flags = {
            "aerosol": aerosol,
            "sun_elevation": self.sun_elevation,
            "present": self.present,
            "gradient": self.gradient,
            "residual": residual,
            "adjacency": adjacency,
            "aod": self.aod,
            "missed": self.missed,
            **({} if self.angstrom is None else {"angstrom": self.angstrom}),
        }

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        names = KIND_NAMES if self.aerosol == "any" else (self.aerosol,)
        places = constant(tuple(map(KIND_NAMES.index, names)), torch.int64, shape.device)
        kind = places[draws.integer(len(names))]
        share = draws.uniform()
        if self.angstrom is None:
            spread = constant(tuple(each.finer for each in AEROSOLS), torch.float64, shape.device)[kind]
            finer = spread[:, 0] + (spread[:, 1] - spread[:, 0]) * share
        else:
            low, high = self.angstrom
            finer = low + (high - low) * share - angstrom_exponents(shape.device)[kind]
        corrected = shape.sensor is not None and shape.sensor.level == "surface"
        elevation = draws.uniform(*self.sun_elevation)
        params = {
            "aod": draws.uniform(*(self.missed if corrected else self.aod)),
            "aerosol": kind,
            "finer": finer,
            "gsd_m": torch.full_like(finer, _DEFAULT_GSD_M) if shape.gsd_m is None else shape.gsd_m.to(finer),
            "sun_elevation": elevation if shape.sun_elevation is None else shape.sun_elevation.clamp(5, 90),
        }
        for name, known in (("view_zenith", shape.view_zenith), ("relative_azimuth", shape.relative_azimuth)):
            if known is not None:
                params[name] = known
        if self._gradual:
            params |= {"gradient": draws.uniform(*self.gradient), "direction": draws.uniform(0.0, 360.0)}
        if corrected and self.residual:
            gain_and_offset = draws.normals(2 * shape.bands).view(shape.batch, 2, shape.bands)
            params["residual"] = gain_and_offset.clamp(-3, 3)
        return params

    @property
    def _gradual(self) -> bool:
        return self.gradient[1] > 0

    def segments(self, params: Params, shape: TileShape) -> tuple[OperationSegment, ...]:
        sensor = shape.sensor
        assert sensor is not None  # check_sensor has refused its absence
        aod = params["aod"].double()
        if sensor.level == "surface" and self.missed[1] == 0:
            nothing = torch.ones(len(aod), len(sensor.bands), dtype=torch.float64, device=aod.device)
            return (Affine(self._left(Terms(nothing, 0 * nothing), params, sensor)),)
        before, after = self._air(aod, params, sensor)
        first = (self._mixed(before, after, params, sensor),) if self.adjacency else ()
        if not self._gradual:
            return (*first, Affine(self._hazy(before, after, params, sensor)))
        share = params["gradient"].double()
        thin, thick = (
            self._hazy(*self._air(aod * (1 + sign * share), params, sensor), params, sensor) for sign in (-1, 1)
        )
        angle = torch.deg2rad(params["direction"].double())
        across, down = angle.cos().float().double(), angle.sin().float().double()
        reach = across.abs() + down.abs()
        ramp = Ramp(torch.full_like(aod, 0.5), across / reach, down / reach)
        every = torch.ones_like(aod, dtype=torch.bool)
        more = Modulation(ramp, (thick.gain - thin.gain)[..., None], (thick.offset - thin.offset)[..., None], every)
        return (*first, Affine(thin, more))

    def _air(self, aod: Float[Tensor, " b"], params: Params, sensor: Sensor) -> tuple[Layer | None, Layer]:
        """The air before (None: none), and with so much more aerosol."""
        wavelength, elevation = wavelengths_nm(sensor, aod.device), params["sun_elevation"]
        aerosol = aerosol_of(params["aerosol"], aod, centres_nm(sensor), params["finer"])
        view: dict[str, Any] = {name: params[name] for name in ("view_zenith", "relative_azimuth") if name in params}
        if sensor.level is None:
            return None, layer(wavelength, elevation, aerosol, molecules=False, **view)
        return thickened(wavelength, elevation, aerosol, self.present, **view)

    def _mixed(self, before: Layer | None, after: Layer, params: Params, sensor: Sensor) -> Affine:
        """Each pixel mixed with its surroundings."""
        own, bend, path = mixed(before, after, corrected=sensor.level == "surface")
        one = torch.ones_like(own)
        share = one
        if sensor.level is not None:
            depth = params["aod"].double() + self.present
            aerosol = aerosol_of(params["aerosol"], depth, centres_nm(sensor), params["finer"])
            share = aerosol_share(aerosol, wavelengths_nm(sensor, one.device))
        around = Background(params["gsd_m"].double(), share, bend, path, one, torch.zeros_like(one))
        every = torch.ones(len(one), dtype=torch.bool, device=one.device)
        return Affine(Terms(own, torch.zeros_like(own)), Modulation(around, None, (1 - own)[..., None], every))

    def _hazy(self, before: Layer | None, after: Layer, params: Params, sensor: Sensor) -> Terms:
        """Gain and offset over ground of one colour."""
        if before is None:
            return Terms(after.transmittance, after.path)
        if sensor.level == "toa":
            return Terms(*_seen_through(after, before))
        return self._left(Terms(*_left_by_correction(after, before)), params, sensor)

    def _left(self, terms: Terms, params: Params, sensor: Sensor) -> Terms:
        """These terms, and the uncertainty of a correction."""
        if "residual" not in params:
            return terms
        wavelength = wavelengths_nm(sensor, terms.gain.device)
        relative, absolute = correlated_by_wavelength(params["residual"].double(), wavelength).unbind(1)
        return terms.then(Terms(1 + _RELATIVE * relative, _ABSOLUTE * absolute))


@several_by_numpy
def _seen_through(xp: Any, after: Any, before: Any) -> tuple[Numbers, ...]:
    """Gain and offset at the top of the atmosphere."""
    gain = after.transmittance / before.transmittance
    return gain, after.path - gain * before.path


@several_by_numpy
def _left_by_correction(xp: Any, after: Any, before: Any) -> tuple[Numbers, ...]:
    """Gain and offset of surface reflectance, where a correction took off the air of before."""
    return after.transmittance / before.transmittance, (after.path - before.path) / before.transmittance


# One deviation of surface reflectance: a share of it, and a constant.
_RELATIVE, _ABSOLUTE = 0.05, 0.005


class RandomWaterVapour(RadiometricOperation):
    """More or less water vapour: bands inside its absorption (940 nm and the like) darken or brighten, others stay.

    Transmittance follows from wavelength and width of a band (`gases`), over the way down and up. Surface reflectance
    has been corrected for it; there, `column` is how wrong the estimate was, as a fraction of `present`. Ozone, which
    takes a few percent from green to red, comes along: its column is known too well to be left in surface reflectance.
    Where a band is opaque, what is seen was scattered above the vapour, and stays.

    Args:
        column: range of the water column in g/cm2: 0.5 in winter, 4 in the tropics. For surface reflectance the range
            is narrowed to a fifth about `present`.
        present: column that the image was taken under.
        ozone: range of the column of ozone in Dobson units, about 300 that the image was taken under: 250 in the
            tropics, 400 in northern spring.
        sun_elevation: range of the sun's elevation where the sample does not tell it, degrees.
        **options: see `RadiometricOptions`.
    """

    needs_sensor = True
    neutral: ClassVar = {"column": 1.5, "ozone": 300.0}

    def __init__(
        self,
        column: float | Sequence[float] = (0.5, 4.0),
        present: float = 1.5,
        ozone: float | Sequence[float] = (250.0, 400.0),
        sun_elevation: float | Sequence[float] = (30.0, 65.0),
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.column = as_range(column, "column", low=0, high=10)
        if not 0 < present <= 10:
            raise ConfigurationError(f"present={present} is a water column in g/cm2 within (0, 10]", argument="present")
        self.present = float(present)
        self.sun_elevation = as_range(sun_elevation, "sun_elevation", low=5, high=90)
        self.ozone = as_range(ozone, "ozone", low=0, high=1000)
        self.flags = {
            "column": self.column,
            "present": self.present,
            "ozone": self.ozone,
            "sun_elevation": self.sun_elevation,
        }
        self.neutral = {"column": self.present, "ozone": _USUAL_OZONE}  # type: ignore[misc]

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        column, elevation = draws.uniform(*self.column), draws.uniform(*self.sun_elevation)
        ozone = draws.uniform(*self.ozone)
        if shape.sensor is not None and shape.sensor.level == "surface":
            column = self.present + (column - self.present) * _CORRECTED
            ozone = torch.full_like(ozone, _USUAL_OZONE)
        return {
            "column": column,
            "ozone": ozone,
            "sun_elevation": elevation if shape.sun_elevation is None else shape.sun_elevation.clamp(5, 90),
        }

    def terms(self, params: Params, shape: TileShape) -> Terms:
        sensor = shape.sensor
        assert sensor is not None  # check_sensor has refused its absence
        column = params["column"].double()
        centres, widths = centres_nm(sensor), band_widths_nm(sensor)
        zenith = torch.deg2rad(90 - params["sun_elevation"].double())
        air_mass = 1 + 1 / zenith.cos()

        def through(water: Tensor) -> Tensor:
            return vapour_transmittance(centres, widths, water * air_mass) + _ABOVE

        gain = through(column) / through(torch.full_like(column, self.present))
        more = (params["ozone"].double() - _USUAL_OZONE) / 1000 * air_mass
        gain = gain * torch.exp(-more[:, None] * ozone_depth(centres, column.device))
        return Terms(gain, torch.zeros_like(gain))


# Dobson units.
_USUAL_OZONE = 300.0
# Share of the light in an opaque band that never met the vapour.
_ABOVE = 0.02
# The error of a retrieved column is about a fifth of what columns vary by.
_CORRECTED = 0.2

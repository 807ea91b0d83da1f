"""What is known of a sensor: its bands, their wavelengths and noise, and how a number becomes reflectance.

`Sensor` and `Band` are immutable values; built-in ones and a user's own are YAML files, read and checked in `schema`
and found by name in `lookup`. Guessing the sensor of a file by its name and tags is done in
`geoaug.data.raster.identify`, not here.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from geoaug.errors import ConfigurationError, did_you_mean

# Nominal wavelength, and the range that still counts as that colour (nm); for pictures only.
_COLOURS = {
    "blue": (485.0, 440.0, 515.0),
    "green": (560.0, 515.0, 600.0),
    "red": (660.0, 600.0, 700.0),
    "near infrared": (840.0, 760.0, 900.0),
}
# A panchromatic band is centred in the green or the red, but is no colour.
_WIDEST_COLOUR_NM = 150.0


@dataclass(frozen=True, slots=True)
class Band:
    """One band of a sensor.

    Args:
        name: the name it is chosen by.
        wavelength_nm: centre wavelength in nm; None where unknown, and for SAR.
        bandwidth_nm: full width at half maximum in nm.
        gsd_m: ground sampling distance in metres of the sensor (a file may have been resampled).
        solar_irradiance: mean extraterrestrial irradiance over the band at 1 astronomical unit, W/m2/um.
        snr: signal-to-noise ratio at `reference_radiance`.
        reference_radiance: W/m2/sr/um.
        quantification: with `offset`, reflectance = (DN + offset) / quantification.
        offset: in DN.
        nodata: the DN that means "no data"; None where there is none.
        saturation: the DN that marks, or is reached by, a saturated pixel; None where unknown.
        noise_alpha: with `noise_beta`, the noise of a pixel in DN: sigma^2 = alpha^2 + beta * DN; both or neither.
        noise_beta: see `noise_alpha`.
        looks: equivalent number of looks (SAR).
        nesz_db: backscatter that the thermal noise equals, dB (SAR).
        resolution_m: across the columns and along them (range and azimuth), metres, which is more than `gsd_m` where
            neighbouring pixels share their speckle (SAR).
        parallax: metres along the track by which the band sees what is a metre above the ground further on than a band
            of parallax 0 does: bands look ahead and back by different angles. None where unknown.
        mtf: modulation transfer of sensor and processing at the Nyquist frequency of `gsd_m`, where it is known.
        black: reflectance that is shown as the display value 0, where the sensor has a `transfer`.
        white: reflectance that is shown as the display value 1, likewise.
        aliases: further names for the band.

    Raises:
        ConfigurationError: a figure is not finite or not positive where it must be.
    """

    name: str
    wavelength_nm: float | None = None
    bandwidth_nm: float | None = None
    gsd_m: float | None = None
    solar_irradiance: float | None = None
    snr: float | None = None
    reference_radiance: float | None = None
    quantification: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    saturation: float | None = None
    noise_alpha: float | None = None
    noise_beta: float | None = None
    looks: float | None = None
    nesz_db: float | None = None
    resolution_m: tuple[float, float] | None = None
    parallax: float | None = None
    mtf: float | None = None
    black: float = 0.0
    white: float = 1.0
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigurationError("a band has an empty name; give it one")
        for field in _POSITIVE_FIELDS:
            figure = getattr(self, field)
            if figure is not None and not (math.isfinite(figure) and figure > 0):
                raise ConfigurationError(f"band '{self.name}': {field} must be positive, not {figure}")
        if not math.isfinite(self.offset):
            raise ConfigurationError(f"band '{self.name}': offset must be finite, not {self.offset}")
        if self.parallax is not None and not math.isfinite(self.parallax):
            raise ConfigurationError(f"band '{self.name}': parallax must be finite, not {self.parallax}")
        if self.resolution_m is not None and not all(math.isfinite(side) and side > 0 for side in self.resolution_m):
            raise ConfigurationError(f"band '{self.name}': resolution_m must be positive, not {self.resolution_m}")
        if self.mtf is not None and not 0 < self.mtf <= 1:
            raise ConfigurationError(f"band '{self.name}': mtf is a transfer within (0, 1], not {self.mtf:g}")
        if not (math.isfinite(self.black) and math.isfinite(self.white) and self.black < self.white):
            raise ConfigurationError(
                f"band '{self.name}': black and white are reflectances, white the greater one, not {self.black:g} and "
                f"{self.white:g}"
            )
        if (self.snr is None) != (self.reference_radiance is None):
            raise ConfigurationError(
                f"band '{self.name}': snr and reference_radiance belong together; give both or neither"
            )
        if (self.noise_alpha is None) != (self.noise_beta is None):
            raise ConfigurationError(
                f"band '{self.name}': noise_alpha and noise_beta belong together; give both or neither"
            )
        for field in ("noise_alpha", "noise_beta"):
            figure = getattr(self, field)
            if figure is not None and not (math.isfinite(figure) and figure >= 0):
                raise ConfigurationError(f"band '{self.name}': {field} must not be negative, not {figure}")


_POSITIVE_FIELDS = (
    "wavelength_nm",
    "bandwidth_nm",
    "gsd_m",
    "solar_irradiance",
    "snr",
    "reference_radiance",
    "quantification",
    "looks",
)


@dataclass(frozen=True, slots=True)
class Sensor:
    """An ordered set of bands, in the order of the image's channels.

    Args:
        name: short name, such as "sentinel-2-l2a".
        bands: at least one; no two may answer to the same name or alias.
        domain: "optical" (reflectance) or "sar" (backscatter).
        quantity: what (DN + offset) / quantification is: "reflectance", or for SAR "power" (linear backscatter, which
            is its default), "amplitude" (its root) or "db" (ten times its logarithm).
        level: whether reflectance is that of the top of the atmosphere ("toa") or of the ground ("surface"); None
            where it is not known.
        sun_corrected: whether reflectance has been divided by the sine of the sun's elevation.
        transfer: "srgb" where (DN + offset) / quantification is no reflectance but a display value u of 0 to 1, made
            for the eye: reflectance = black + (white - black) f(u), f the curve of sRGB (IEC 61966-2-1, an exponent of
            2.4 with a straight toe) and `black` and `white` those of the band. None: it is what `quantity` says.
        title: one line for people.
        reference: where the figures come from.

    Raises:
        ConfigurationError: no bands, or two that answer to one name.
    """

    name: str
    bands: tuple[Band, ...]
    domain: Literal["optical", "sar"] = "optical"
    quantity: Literal["reflectance", "power", "amplitude", "db"] | None = None
    level: Literal["toa", "surface"] | None = None
    sun_corrected: bool = True
    transfer: Literal["srgb"] | None = None
    title: str = ""
    reference: str = ""

    def __post_init__(self) -> None:
        if not self.bands:
            raise ConfigurationError(f"sensor '{self.name}' has no bands; it needs one at least")
        radar = self.domain == "sar"
        if self.quantity is None:
            object.__setattr__(self, "quantity", "power" if radar else "reflectance")
        if radar == (self.quantity == "reflectance"):
            wanted = "'power', 'amplitude' or 'db'" if radar else "'reflectance'"
            raise ConfigurationError(
                f"sensor '{self.name}': the quantity of {self.domain} bands is {wanted}, not '{self.quantity}'"
            )
        if radar and self.level is not None:
            raise ConfigurationError(f"sensor '{self.name}': a level is for optical products; leave it out for SAR")
        if radar and self.transfer is not None:
            raise ConfigurationError(f"sensor '{self.name}': a transfer is for optical images; leave it out for SAR")
        owners: dict[str, str] = {}
        for position, band in enumerate(self.bands):
            for label in {_label(name) for name in (band.name, *band.aliases)}:
                if label in owners:
                    raise ConfigurationError(
                        f"sensor '{self.name}': band '{band.name}' (number {position + 1}) answers to the "
                        f"same name as band '{owners[label]}' ('{label}'); names and aliases must differ"
                    )
                owners[label] = band.name

    def __len__(self) -> int:
        return len(self.bands)

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands, in order."""
        return tuple(band.name for band in self.bands)

    @property
    def quantification(self) -> tuple[float, ...]:
        """Per band, in DN per unit of reflectance."""
        return tuple(band.quantification for band in self.bands)

    @property
    def offset(self) -> tuple[float, ...]:
        """Per band, in DN, added before the division by `quantification`."""
        return tuple(band.offset for band in self.bands)

    @property
    def of_8_bits(self) -> bool:
        """Whether its numbers end at 255: a picture made for the eye, on a curve or in a straight line.

        A scanner of 8 bits (Landsat 4, 5 and 7 at level 1), whose reflectance is not corrected for the sun, is none.
        """
        return self.sun_corrected and self.ends_at_255

    @property
    def ends_at_255(self) -> bool:
        """Whether its numbers, as stored, are of 8 bits."""
        return all(band.saturation is not None and band.saturation <= 255 for band in self.bands)

    @property
    def nodata(self) -> float | None:
        """The nodata value that all bands share; None where they have none or differ."""
        first = self.bands[0].nodata
        if first is not None and math.isnan(first):
            return first if all(b.nodata is not None and math.isnan(b.nodata) for b in self.bands) else None
        return first if all(band.nodata == first for band in self.bands) else None

    def index(self, band: str | int) -> int:
        """Return the 0-based position of a band.

        Args:
            band: a name or alias, in any case and with or without the zero of "B04"; or else a 1-based number
                (an int, or digits where no band has that name).

        Raises:
            ConfigurationError: no such band; the message has the nearest names.
        """
        if isinstance(band, str):
            label = _label(band)
            for position, candidate in enumerate(self.bands):
                if label in (_label(name) for name in (candidate.name, *candidate.aliases)):
                    return position
        elif isinstance(band, bool) or not isinstance(band, int):
            raise ConfigurationError(f"a band is chosen by its name or its 1-based number, not by {band!r}")
        number = int(band) if isinstance(band, int) or re.fullmatch(r"[0-9]+", band.strip()) else None
        if number is not None:
            if 1 <= number <= len(self):
                return number - 1
            raise ConfigurationError(f"band {number}: '{self.name}' has bands 1 to {len(self)}")
        raise ConfigurationError(
            f"band '{band}' is not one of {' '.join(self.band_names)}{self._suggestion(str(band))}; "
            f"bands are named as in the sensor '{self.name}'"
        )

    def _suggestion(self, name: str) -> str:
        labels = {_label(n): band.name for band in self.bands for n in (band.name, *band.aliases)}
        return did_you_mean(_label(name), labels)

    def select(self, bands: Sequence[str | int] | str) -> "Sensor":
        """Return the sensor with the chosen bands only, in the order asked for.

        Args:
            bands: names or 1-based numbers as for `index`; a string is split at its commas ("B04,B03,B02").

        Raises:
            ConfigurationError: no bands asked for, an unknown one, or one asked for twice.
        """
        if isinstance(bands, str):
            bands = [part.strip() for part in bands.split(",") if part.strip()]
        if not bands:
            raise ConfigurationError(f"no bands asked for; '{self.name}' has {' '.join(self.band_names)}")
        positions = [self.index(band) for band in bands]
        for number, position in enumerate(positions):
            if position in positions[:number]:
                raise ConfigurationError(
                    f"band '{self.bands[position].name}' is asked for twice (the second time as "
                    f"'{bands[number]}'); name each band once"
                )
        return replace(self, bands=tuple(self.bands[position] for position in positions))

    def with_scaling(
        self,
        quantification: float | Sequence[float] | None = None,
        offset: float | Sequence[float] | None = None,
    ) -> "Sensor":
        """Return the sensor with another scaling; what is None stays as it is.

        Args:
            quantification: DN per unit of reflectance, for all bands or one for each.
            offset: in DN, for all bands or one for each.

        Raises:
            ConfigurationError: a sequence is not as long as there are bands, or a quantification is not
                positive.
        """
        quantifications = self._per_band("quantification", quantification, self.quantification)
        offsets = self._per_band("offset", offset, self.offset)
        bands = zip(self.bands, quantifications, offsets, strict=True)
        return replace(self, bands=tuple(replace(b, quantification=q, offset=o) for b, q, o in bands))

    def _per_band(
        self, what: str, given: float | Sequence[float] | None, present: tuple[float, ...]
    ) -> tuple[float, ...]:
        if given is None:
            return present
        if isinstance(given, int | float):
            return (float(given),) * len(self)
        if len(given) != len(self):
            raise ConfigurationError(
                f"{len(given)} values of {what} for the {len(self)} bands of '{self.name}'; give one, or one a band"
            )
        return tuple(float(value) for value in given)

    def for_baseline(self, baseline: str) -> "Sensor":
        """Return a Sentinel-2 sensor with the offset of a processing baseline: -1000 from 04.00 on, else 0.

        The baseline is the product's PROCESSING_BASELINE ("04.00"), or as it stands in its name ("N0400").
        The date of the scene says nothing: old scenes are reprocessed (ESA, Sentinel-2 Products
        Specification Document, RADIO_ADD_OFFSET, BOA_ADD_OFFSET).

        Raises:
            ConfigurationError: not a Sentinel-2 sensor, or not a baseline.
        """
        if not self.name.startswith("sentinel-2"):
            raise ConfigurationError(
                f"processing baselines are Sentinel-2's; '{self.name}' is not, use with_scaling(offset=...)"
            )
        match = re.fullmatch(r"N?(\d{2})\.?(\d{2})", baseline.strip(), re.IGNORECASE)
        if match is None:
            raise ConfigurationError(f"'{baseline}' is not a processing baseline; write it as '04.00' or 'N0400'")
        return self.with_scaling(offset=-1000.0 if (int(match[1]), int(match[2])) >= (4, 0) else 0.0)


def generic_sensor(
    count: int,
    quantification: float,
    *,
    nodata: float | None = None,
    names: Sequence[str] | None = None,
) -> Sensor:
    """Return a sensor for a file nothing is known of: optical bands of unknown wavelength and noise.

    Args:
        count: number of bands.
        quantification: DN per unit of reflectance.
        nodata: in DN.
        names: `count` names; "band 1", "band 2"... unless given.

    Raises:
        ConfigurationError: `count` is below 1, or the names do not fit it or are not distinct.
    """
    if count < 1:
        raise ConfigurationError(f"a sensor has one band at least, not {count}")
    if names is None:
        names = [f"band {number}" for number in range(1, count + 1)]
    if len(names) != count:
        raise ConfigurationError(f"{len(names)} names for {count} bands")
    bands = tuple(Band(name, quantification=quantification, nodata=nodata) for name in names)
    return Sensor("generic", bands, title="Bands of unknown wavelength")


def rgb_bands(sensor: Sensor) -> tuple[int, int, int] | None:
    """Return the 0-based red, green and blue bands by wavelength; None where the sensor lacks one."""
    return _three(sensor, "red", "green", "blue")


def false_colour_bands(sensor: Sensor) -> tuple[int, int, int] | None:
    """Return the 0-based near infrared, red and green bands by wavelength; None where one is lacking."""
    return _three(sensor, "near infrared", "red", "green")


def colour_band(sensor: Sensor, colour: Literal["red", "green", "blue", "near infrared"]) -> int | None:
    """Return the 0-based band of one colour by wavelength; None where the sensor lacks it."""
    return _nearest_to(sensor, colour)


def _three(sensor: Sensor, *colours: str) -> tuple[int, int, int] | None:
    first, second, third = (_nearest_to(sensor, colour) for colour in colours)
    return None if first is None or second is None or third is None else (first, second, third)


def _nearest_to(sensor: Sensor, colour: str) -> int | None:
    nominal, low, high = _COLOURS[colour]
    distances = [
        (abs(band.wavelength_nm - nominal), position)
        for position, band in enumerate(sensor.bands)
        if band.wavelength_nm is not None
        and low <= band.wavelength_nm < high
        and (band.bandwidth_nm or 0.0) < _WIDEST_COLOUR_NM
    ]
    return min(distances)[1] if distances else None


@lru_cache(maxsize=4096)
def _label(name: str) -> str:
    """Reduce a name to what counts in it: "B04" and "b4" are one band, as are "red edge 1" and "rededge1"."""
    joined = re.sub(r"[\s_\-]+", "", name.lower())
    return re.sub(r"^(band|b)0+(?=\d)", r"\1", joined)

"""What is done to the tiles of a stress test: nuisances by name, each at several strengths, one operation at a time.

Strengths are in the nuisance's own unit and the same for every tile; what is left to chance (where a cloud is, which
bands are lost) follows from the tile's key, so that every strength draws the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from geoaug.augment.operations.atmosphere import RandomHaze
from geoaug.augment.operations.base import TileShape
from geoaug.augment.operations.clouds import RandomCloud, RandomCloudShadow
from geoaug.augment.operations.detector import RandomBandDropout, RandomStriping
from geoaug.augment.operations.geometric import RandomRotation
from geoaug.augment.operations.illumination import RandomCalibration, RandomIllumination
from geoaug.augment.operations.optics import RandomBandShift, RandomPointSpread, RandomResolution
from geoaug.augment.operations.sar import RandomIncidenceAngle, RandomSpeckle
from geoaug.augment.operations.sensor_noise import RandomSensorNoise
from geoaug.augment.planning.plan import Params
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import Draws
from geoaug.sensors import Sensor

__all__ = ["Nuisance", "chosen_nuisances", "nuisances_for"]


@dataclass(frozen=True, slots=True)
class Nuisance:
    """Something that happens to images, and how strongly.

    Attributes:
        name: by which it is chosen.
        unit: of its strength, with what 0 or 1 means where that is not plain.
        levels: strengths, from the weakest on.
        build: the operation that applies one strength to every tile.
    """

    name: str
    unit: str
    levels: tuple[float, ...]
    build: Callable[[float], nn.Module]


class _LostBands(RandomBandDropout):
    """As many bands lost as asked for, in every tile; one stays. Which they are is left to chance."""

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        order = draws.uniforms(shape.bands).argsort(dim=1).argsort(dim=1)
        return {"dropped": (order < min(self.max_bands, shape.bands - 1)).double()}


def nuisances_for(sensor: Sensor, *, pixels: bool = False) -> tuple[Nuisance, ...]:
    """Those that happen to images of a sensor.

    Args:
        sensor: optical or radar, with the bands of the tiles.
        pixels: whether a model answers for each pixel: labels of ground under thick cloud are then left out, as nobody
            could tell them; the class of a chip stays.
    """
    bands = len(sensor)
    lost = tuple(float(count) for count in (1, 2, 4, 8) if count < bands)
    # Whatever the sensor: geometry, sharpness, and bands of which one may be lost or lie beside the others.
    ends = [
        Nuisance("blur", "MTF at Nyquist, 1: none", (0.5, 0.3, 0.15, 0.05), _ranged(RandomPointSpread, "mtf")),
        Nuisance("resolution", "pixels to a cell", (1.5, 2.0, 3.0, 4.0), _ranged(RandomResolution, "factor")),
    ]
    if bands > 1:
        ends += [
            Nuisance("band shift", "pixels, std", (0.1, 0.25, 0.5, 1.0), _ranged(RandomBandShift, "sigma")),
            Nuisance("band loss", "bands lost", lost, lambda count: _LostBands(max_bands=int(count), p=1.0)),
        ]
    turn = Nuisance("turn", "degrees", (5.0, 15.0, 30.0, 45.0, 90.0), _ranged(RandomRotation, "degrees"))
    if sensor.domain != "optical":
        return (
            turn,
            Nuisance("incidence angle", "degrees steeper", (2.0, 4.0, 8.0), _ranged(RandomIncidenceAngle, "change")),
            Nuisance("speckle", "looks", (3.0, 2.0, 1.0), _ranged(RandomSpeckle, "looks")),
            *ends,
        )
    under = "ignore" if pixels else "keep"
    # Surface products have had their air taken off: there it is what the correction missed.
    haze = {"residual": False} if sensor.level == "surface" else {}
    aod = "missed" if sensor.level == "surface" else "aod"
    return (
        turn,
        Nuisance("darker", "times the light", (0.8, 0.6, 0.4), _ranged(RandomIllumination, "gain", band_jitter=0.0)),
        Nuisance("brighter", "times the light", (1.25, 1.6, 2.2), _ranged(RandomIllumination, "gain", band_jitter=0.0)),
        Nuisance("haze", "aerosol optical depth", (0.1, 0.3, 0.6, 1.0), _ranged(RandomHaze, aod, **haze)),
        Nuisance(
            "cloud", "share of the sky", (0.1, 0.25, 0.5),
            _ranged(RandomCloud, "coverage", cirrus=0.0, thick_cloud=under),
        ),
        Nuisance("shadow", "share of the sky under cloud", (0.1, 0.25, 0.5), _ranged(RandomCloudShadow, "coverage")),
        Nuisance("noise", "times the sensor's own", (1.0, 2.0, 4.0, 8.0), _ranged(RandomSensorNoise, "factor")),
        *ends,
        Nuisance(
            "calibration", "std of a band's gain", (0.02, 0.05, 0.1, 0.2),
            lambda sigma: RandomCalibration(absolute=0.0, band_to_band=sigma, p=1.0),
        ),
        Nuisance("stripes", "std of a column's gain", (0.005, 0.02, 0.05), _ranged(RandomStriping, "sigma")),
    )  # fmt: skip


def chosen_nuisances(nuisances: Sequence[Nuisance], names: Sequence[str] | None) -> tuple[Nuisance, ...]:
    """Those of these names, in their own order; all for None.

    Raises:
        ConfigurationError: a name that is none of theirs, or no name at all.
    """
    known = [one.name for one in nuisances]
    if names is None:
        return tuple(nuisances)
    if not names:
        raise ConfigurationError(f"no nuisances: name some of {', '.join(known)}", argument="nuisances")
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"no nuisance {name!r} for these data; there are {', '.join(known)}", argument="nuisances"
            )
    return tuple(one for one in nuisances if one.name in names)


def _ranged(operation: Callable[..., nn.Module], argument: str, **others: Any) -> Callable[[float], nn.Module]:
    """An operation whose range is one value."""
    return lambda value: operation(**{argument: (value, value)}, **others, p=1.0)

"""Reading a sensor's YAML definition, and saying precisely what is wrong with one.

The built-in definitions pass the same checks as a user's own. pydantic and yaml are imported when a file
is read, so that `import geoaug.sensors` stays quick.
"""

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from geoaug.errors import ConfigurationError, did_you_mean
from geoaug.sensors.sensor import Band, Sensor

_BAND_FIELDS = tuple(field.name for field in fields(Band))
_SENSOR_FIELDS: tuple[str, ...] = (
    "name",
    "title",
    "domain",
    "quantity",
    "level",
    "sun_corrected",
    "transfer",
    "reference",
    "defaults",
    "bands",
)
_MOST_REPORTED = 5


def read_sensor(path: Path) -> Sensor:
    """Read a sensor from a YAML file (the shape is shown in docs/sensors.md).

    Raises:
        ConfigurationError: no such file, not YAML, or a faulty definition; names the file, the band and the
            field, and the nearest right name of a misspelt field.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such sensor definition") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as a sensor definition ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: a sensor definition is a mapping with {', '.join(_SENSOR_FIELDS)}")
    return _parse(content, path)


def _parse(content: dict[str, Any], path: Path) -> Sensor:
    from pydantic import ValidationError

    try:
        definition = _definition_model().model_validate(content)
    except ValidationError as error:
        problems = [_describe(problem, content) for problem in error.errors(include_url=False)]
        more = f"; and {len(problems) - _MOST_REPORTED} more" if len(problems) > _MOST_REPORTED else ""
        raise ConfigurationError(f"{path}: {'; '.join(problems[:_MOST_REPORTED])}{more}") from error
    values = definition.model_dump(exclude_unset=True)
    defaults = values.pop("defaults", {})
    entries = values.pop("bands")
    try:
        bands = tuple(Band(**{**defaults, **entry}) for entry in entries)
        return Sensor(bands=bands, **values)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _describe(problem: Any, content: dict[str, Any]) -> str:
    """Turn one of pydantic's problems into a clause that names the band (name, number), then the field."""
    location = list(problem["loc"])
    where, known = "", _SENSOR_FIELDS
    if location[0] == "bands" and len(location) > 1:
        number = location[1]
        where, known, location = f"{_band_called(content, number)}: ", _BAND_FIELDS, location[2:]
    elif location[0] == "defaults" and len(location) > 1:
        where, known, location = "defaults: ", _BAND_FIELDS, location[1:]
    field = ".".join(str(part) for part in location) or "the entry"
    if problem["type"] == "extra_forbidden":
        hint = did_you_mean(field, {name: name for name in known}) or f" (fields are {', '.join(known)})"
        return f"{where}'{field}' is not a field{hint}"
    if problem["type"] == "missing":
        return f"{where}'{field}' is missing"
    return f"{where}'{field}': {problem['msg'][:1].lower()}{problem['msg'][1:]}, not {problem['input']!r}"


def _band_called(content: dict[str, Any], number: int) -> str:
    entry = content["bands"][number]
    name = entry.get("name") if isinstance(entry, dict) else None
    return f"band '{name}' (number {number + 1})" if name else f"band number {number + 1}"


@cache
def _definition_model() -> Any:
    """Build the model of a definition file; inside a function because importing pydantic takes a while."""
    from typing import Annotated, Literal

    from pydantic import BaseModel, ConfigDict, Field

    positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
    finite = Annotated[float, Field(allow_inf_nan=False)]

    class Figures(BaseModel):
        model_config = ConfigDict(extra="forbid")

        wavelength_nm: positive | None = None
        bandwidth_nm: positive | None = None
        gsd_m: positive | None = None
        solar_irradiance: positive | None = None
        snr: positive | None = None
        reference_radiance: positive | None = None
        quantification: positive = 1.0
        offset: finite = 0.0
        nodata: float | None = None
        saturation: finite | None = None
        noise_alpha: finite | None = None
        noise_beta: finite | None = None
        looks: positive | None = None
        nesz_db: finite | None = None
        resolution_m: tuple[positive, positive] | None = None
        parallax: finite | None = None
        mtf: positive | None = None
        black: finite = 0.0
        white: finite = 1.0

    class BandEntry(Figures):
        name: Annotated[str, Field(min_length=1)]
        aliases: tuple[str, ...] = ()

    class Definition(BaseModel):
        model_config = ConfigDict(extra="forbid")

        name: Annotated[str, Field(min_length=1)]
        title: str = ""
        domain: Literal["optical", "sar"] = "optical"
        quantity: Literal["reflectance", "power", "amplitude", "db"] | None = None
        level: Literal["toa", "surface"] | None = None
        sun_corrected: bool = True
        transfer: Literal["srgb"] | None = None
        reference: str = ""
        defaults: Figures = Figures()
        bands: Annotated[list[BandEntry], Field(min_length=1)]

    return Definition

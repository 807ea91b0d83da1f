"""The tables of docs/physics.md, from the code and from what it is compared with: `python docs/build_physics.py`."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import torch
from torch import Tensor

from geoaug import Compose, get_sensor, sample_keys
from geoaug.augment import RandomHaze
from geoaug.augment.physics import air, ground
from geoaug.augment.physics.aerosols import KIND_NAMES, aerosol_of, angstrom_exponents

HERE = Path(__file__).resolve().parent
PAGE = HERE / "physics.md"
SIXS = HERE.parent / "tests" / "augment" / "sixs_sentinel2.csv"


def air_against_6s() -> list[list[str]]:
    """A row for each aerosol: relative error of the path, and greatest errors of the rest."""
    lines = list(csv.DictReader(SIXS.read_text(encoding="ascii").splitlines()))
    rows = [["aerosol", "path, median", "path, worst", "down, worst", "up, worst", "spherical albedo, worst"]]
    for place, kind in enumerate(KIND_NAMES):
        own = [line for line in lines if line["aerosol"] == kind]

        def column(name: str, own: list[dict[str, str]] = own) -> Tensor:
            return torch.tensor([float(line[name]) for line in own], dtype=torch.float64)

        centres = tuple(column("wavelength_nm").tolist())
        aerosol = aerosol_of(torch.full((len(own),), place), column("aod550"), centres)
        layer = air.layer(column("wavelength_nm"), 90 - column("sun_zenith_deg"), aerosol)
        path = (layer.path.diagonal() / column("path_reflectance") - 1).abs()
        others = (
            (layer.down, "transmittance_down"),
            (layer.up, "transmittance_up"),
            (layer.spherical_albedo, "spherical_albedo"),
        )
        worst = [float((found.diagonal() - column(name)).abs().max()) for found, name in others]
        rows.append([kind, f"{path.median():.1%}", f"{path.max():.1%}", *(f"{value:.3f}" for value in worst)])
    return rows


def contrast_against_6s() -> list[list[str]]:
    """What fine detail keeps of its contrast where aerosol goes from 0.2 to 0.6."""
    lines = list(csv.DictReader(SIXS.read_text(encoding="ascii").splitlines()))
    bands = ("B02", "B04", "B8A")
    sensor = get_sensor("sentinel-2-l1c").select(bands)
    own = angstrom_exponents(torch.device("cpu"))
    rows = [["aerosol", *(f"{band}, {source}" for band in bands for source in ("6S", "geoaug", "level ground"))]]
    detail = (torch.arange(96)[:, None] // 5 + torch.arange(96) // 5) % 2 * 0.1
    for place, kind in enumerate(KIND_NAMES):
        row = [kind]
        for band in bands:
            seen = [
                _through(
                    {name: float(value) for name, value in line.items() if name not in ("aerosol", "band")}, detail
                )
                for aod in ("0.2", "0.6")
                for line in lines
                if (line["aerosol"], line["band"], line["aod550"], line["sun_zenith_deg"]) == (kind, band, aod, "30")
            ]
            image = (seen[0] * 10000).float().expand(1, 3, 96, 96).contiguous()
            row.append(f"{seen[1].std() / seen[0].std():.2f}")
            for adjacency in (True, False):
                haze = RandomHaze(
                    0.4,
                    aerosol=kind,  # type: ignore[arg-type]
                    angstrom=float(own[place]),
                    sun_elevation=60,
                    present=0.2,
                    adjacency=adjacency,
                    p=1.0,
                )
                compose = Compose([haze], sensor=sensor, executor="torch")
                hazy = compose({"image": image, "key": sample_keys(0, [0])})["image"][0, bands.index(band)]
                row.append(f"{hazy.std() / seen[0].std():.2f}")
        rows.append(row)
    return rows


def _through(air_of_6s: dict[str, float], ground: Tensor) -> Tensor:
    """The top of the atmosphere over fine detail: direct light from the pixel, diffuse light from the mean."""
    direct = math.exp(-air_of_6s["tau_rayleigh"] - air_of_6s["tau_aerosol"])
    mean = ground.double().mean()
    mixed = direct * ground + (air_of_6s["transmittance_up"] - direct) * mean
    through = air_of_6s["transmittance_down"] * mixed / (1 - air_of_6s["spherical_albedo"] * mean)
    return air_of_6s["path_reflectance"] + through


def ground_under_a_lower_sun() -> list[list[str]]:
    """What is left of nadir reflectance where the sun goes down from 40 degrees from the vertical."""
    rows = [["sun from the vertical", *(f"{row[0]:.0f} nm" for row in ground.WEIGHTS)]]
    centres = tuple(row[0] for row in ground.WEIGHTS)

    def nadir(zenith: float) -> Tensor:
        sun, none = torch.tensor([zenith], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        return ground.reflectance(centres, sun, none, none)[0]

    for zenith in (25.0, 50.0, 65.0):
        rows.append([f"{zenith:.0f}", *(f"{value:.3f}" for value in (nadir(zenith) / nadir(40.0)).tolist())])
    return rows


TABLES = {"air": air_against_6s, "contrast": contrast_against_6s, "ground": ground_under_a_lower_sun}


def markdown(rows: list[list[str]]) -> str:
    """Rows, the first of which are headings, as a table."""
    ruled = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in ruled)


def page(text: str) -> str:
    """The page with its tables made again: each stands between two comments that name it."""
    for name, make in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = before + begin + markdown(make()) + end + after
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

"""The tables of docs/physics.md, from the code and from what it is compared with: `python docs/build_physics.py`."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from torch import Tensor

from geoaug.augment.physics import air
from geoaug.augment.physics.aerosols import KIND_NAMES, aerosol_of

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


TABLES = {"air": air_against_6s}


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

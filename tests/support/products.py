"""Small products laid out as ESA and USGS ship them: Sentinel-2 SAFE folders of real JPEG 2000, Landsat with MTL."""

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from scenes import UTM32, write_raster

BANDS_10 = ("B02", "B03", "B04", "B08")
BANDS_20 = ("B05", "B06", "B07", "B8A", "B11", "B12")
BANDS_60 = ("B01", "B09", "B10")
NATIVE = {**dict.fromkeys(BANDS_10, 10), **dict.fromkeys(BANDS_20, 20), **dict.fromkeys(BANDS_60, 60)}
ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
SIDE = 120  # pixels of 10 m
CORNER = (600000, 5400000)


def write_jp2(path: Path, image: npt.NDArray[Any], gsd: int, *, corner: tuple[float, float] = CORNER) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        warnings.catch_warnings(action="ignore"),
        rasterio.open(
            path, "w", driver="JP2OpenJPEG", count=image.shape[0], height=image.shape[1], width=image.shape[2],
            dtype=image.dtype, crs=UTM32, transform=Affine(gsd, 0, corner[0], 0, -gsd, corner[1]), QUALITY=100,
            REVERSIBLE="YES", BLOCKXSIZE=64, BLOCKYSIZE=64,
        ) as file,
    ):  # fmt: skip
        file.write(image)


def pixels_of(band: str, gsd: int, level: str = "L2A") -> npt.NDArray[np.uint16]:
    """What `make_safe` writes: numbers that tell the band, the resolution and the place; the first two rows are 0."""
    side = SIDE * 10 // gsd
    place = np.arange(side * side, dtype=np.uint16).reshape(1, side, side) % 97
    image = (1000 + 100 * ORDER.index(band) + gsd + place).astype(np.uint16)
    image[:, :2] = 0
    return image


def make_safe(
    folder: Path,
    level: str = "L2A",
    *,
    baseline: str = "05.09",
    date: str = "20230617T103629",
    tile: str = "T32UQV",
    old: bool = False,
    granules: Sequence[str] | None = None,
    leave_out: Sequence[str] = (),
    scl: npt.NDArray[np.uint8] | None = None,
    offset: float | None = -1000,
    quantification: float = 10000,
) -> Path:
    """A SAFE folder with each band at its resolutions, in the new naming or in that before December 2016 (L1C)."""
    orbit = "R008"
    if old:
        product = folder / f"S2A_OPER_PRD_MSIL1C_PDMC_{date}_{orbit}_V{date}_{date}.SAFE"
        metadata = product / f"S2A_OPER_MTD_SAFL1C_PDMC_{date}_{orbit}_V{date}_{date}.xml"
    else:
        product = folder / f"S2A_MSI{level}_{date}_N{baseline.replace('.', '')}_{orbit}_{tile}_{date}.SAFE"
        metadata = product / f"MTD_MSI{level}.xml"
    bands = [band for band in ORDER if not (level == "L2A" and band == "B10") and band not in leave_out]
    for number, granule in enumerate(granules or (tile,)):
        corner = (CORNER[0] + number * 10 * SIDE, CORNER[1])
        if old:
            place = product / "GRANULE" / f"S2A_OPER_MSI_L1C_TL_MTI__{date}_A000001_{granule}_N02.01"
            stem = f"S2A_OPER_MSI_L1C_TL_MTI__{date}_A000001_{granule}"
        else:
            place = product / "GRANULE" / f"{level}_{granule}_A041712_{date}"
            stem = f"{granule}_{date}"
        images = place / "IMG_DATA"
        for band in bands:
            if level == "L1C":
                write_jp2(images / f"{stem}_{band}.jp2", pixels_of(band, NATIVE[band]), NATIVE[band], corner=corner)
                continue
            for gsd in (10, 20, 60):
                # Level 2A brings a band at its own resolution and at coarser ones; B08 at 10 m alone.
                if gsd >= NATIVE[band] and not (band == "B08" and gsd > 10):
                    name = f"R{gsd}m/{stem}_{band}_{gsd}m.jp2"
                    write_jp2(images / name, pixels_of(band, gsd), gsd, corner=corner)
        if level == "L2A":
            classes = np.full((SIDE // 2, SIDE // 2), 4, dtype=np.uint8) if scl is None else scl
            write_jp2(images / f"R20m/{stem}_SCL_20m.jp2", classes[None], 20, corner=corner)
            write_jp2(images / f"R60m/{stem}_SCL_60m.jp2", classes[None, ::3, ::3], 60, corner=corner)
            write_jp2(images / f"R10m/{stem}_TCI_10m.jp2", np.zeros((3, SIDE, SIDE), np.uint8), 10, corner=corner)
        elif not old:
            clouds = np.zeros((3, SIDE // 6, SIDE // 6), dtype=np.uint8)
            clouds[0, 10:], clouds[1, 15:] = 1, 1
            write_jp2(place / "QI_DATA" / "MSK_CLASSI_B00.jp2", clouds, 60, corner=corner)
            write_jp2(place / "QI_DATA" / "MSK_QUALIT_B02.jp2", clouds, 60, corner=corner)
    metadata.write_text(_safe_metadata(level, baseline, date, offset, quantification), encoding="utf-8")
    return product


def _safe_metadata(level: str, baseline: str, date: str, offset: float | None, quantification: float) -> str:
    surface = level == "L2A"
    moment = f"{date[:4]}-{date[4:6]}-{date[6:8]}T{date[9:11]}:{date[11:13]}:{date[13:15]}.024Z"
    tag = "BOA" if surface else "RADIO"
    # One band's offset differs, so that a mix-up of bands is seen.
    offsets = "" if offset is None else "".join(
        f'<{tag}_ADD_OFFSET band_id="{number}">{offset + (number == 1)}</{tag}_ADD_OFFSET>' for number in range(13)
    )  # fmt: skip
    listed = "BOA_ADD_OFFSET_VALUES_LIST" if surface else "Radiometric_Offset_List"
    wrapped = f"<{listed}>{offsets}</{listed}>" if offsets else ""
    bands = "".join(
        f'<Spectral_Information bandId="{number}" physicalBand="{band.replace("B0", "B")}"><RESOLUTION>'
        f"{NATIVE[band]}</RESOLUTION></Spectral_Information>"
        for number, band in enumerate(ORDER)
    )
    value = (
        f'<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE unit="none">{quantification}</BOA_QUANTIFICATION_VALUE>'
        '<AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>'
        if surface
        else f'<QUANTIFICATION_VALUE unit="none">{quantification}</QUANTIFICATION_VALUE>'
    )
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{level[1:]}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level[1:]}.xsd">
<n1:General_Info><Product_Info><PRODUCT_START_TIME>{moment}</PRODUCT_START_TIME>
<PROCESSING_LEVEL>Level-{level[1:]}</PROCESSING_LEVEL><PRODUCT_TYPE>S2MSI{level[1:]}</PRODUCT_TYPE>
<PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE></Product_Info>
<Product_Image_Characteristics>
<Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
<Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values>
{value}{wrapped}
<Spectral_Information_List>{bands}</Spectral_Information_List></Product_Image_Characteristics></n1:General_Info>
</n1:Level-{level[1:]}_User_Product>
"""


def zip_safe(product: Path) -> Path:
    """The product as a zip file beside it, and no longer as a folder."""
    made = shutil.make_archive(str(product.with_suffix("")), "zip", product.parent, product.name)
    shutil.rmtree(product)
    return Path(made)


def make_landsat(
    folder: Path,
    *,
    level: int = 2,
    craft: int = 8,
    date: str = "20230617",
    side: int = 40,
    qa: npt.NDArray[np.uint16] | None = None,
    form: str = "txt",
    leave_out: Sequence[str] = (),
) -> Path:
    """A collection-2 product in a folder of its own."""
    name = f"L{'C' if craft >= 8 else 'E'}{craft:02d}_L{level}{'SP' if level == 2 else 'TP'}_195026_{date}_{date}_02_T1"
    product = folder / name
    numbers = range(1, 8) if level == 2 else (*range(1, 10), 10, 11)
    contents: dict[str, str] = {
        "LANDSAT_PRODUCT_ID": name,
        "PROCESSING_LEVEL": f"L{level}{'SP' if level == 2 else 'TP'}",
    }
    scaling: dict[str, float] = {}
    mult, add = (2.75e-05, -0.2) if level == 2 else (2.0e-05, -0.1)
    for number in numbers:
        file = f"{name}_{'SR_' if level == 2 else ''}B{number}.TIF"
        contents[f"FILE_NAME_BAND_{number}"] = file
        if number < 10:
            scaling |= {f"REFLECTANCE_MULT_BAND_{number}": mult, f"REFLECTANCE_ADD_BAND_{number}": add}
        if f"B{number}" in leave_out:
            continue
        pan = level == 1 and number == 8
        gsd, pixels = (15, 2 * side) if pan else (30, side)
        image = np.full((1, pixels, pixels), 7000 + 100 * number, dtype=np.uint16)
        write_raster(product / file, image, transform=Affine(gsd, 0, 600000, 0, -gsd, 5400000))
    if level == 2:
        contents["FILE_NAME_BAND_ST_B10"] = f"{name}_ST_B10.TIF"
        write_raster(product / f"{name}_ST_B10.TIF", np.ones((1, side, side), np.uint16))
    contents["FILE_NAME_QUALITY_L1_PIXEL"] = f"{name}_QA_PIXEL.TIF"
    flags = np.full((side, side), 1 << 6, dtype=np.uint16) if qa is None else qa
    grid = Affine(30, 0, 600000, 0, -30, 5400000)
    write_raster(product / f"{name}_QA_PIXEL.TIF", flags[None], transform=grid, nodata=1)
    write_raster(product / f"{name}_QA_RADSAT.TIF", flags[None], transform=grid)
    image = {
        "SPACECRAFT_ID": f"LANDSAT_{craft}",
        "DATE_ACQUIRED": f"{date[:4]}-{date[4:6]}-{date[6:]}",
        "SCENE_CENTER_TIME": "10:12:34.5678901Z",
    }
    groups: dict[str, Mapping[str, Any]] = {"PRODUCT_CONTENTS": contents, "IMAGE_ATTRIBUTES": image}
    if level == 2:
        groups["LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"] = scaling
        # The level-1 product that it was made from is told, too, with files that are not there.
        groups["LEVEL1_PROCESSING_RECORD"] = {"FILE_NAME_BAND_1": f"{name.replace('L2SP', 'L1TP')}_B1.TIF"}
        groups["LEVEL1_RADIOMETRIC_RESCALING"] = {key: 2.0e-05 for key in scaling if "MULT" in key}
    else:
        groups["LEVEL1_RADIOMETRIC_RESCALING"] = scaling
    if form == "json":
        text = json.dumps({"LANDSAT_METADATA_FILE": groups}, default=str)
    else:
        lines = ["GROUP = LANDSAT_METADATA_FILE"]
        for group, values in groups.items():
            lines += [f"  GROUP = {group}"]
            lines += [
                f'    {key} = "{value}"' if isinstance(value, str) else f"    {key} = {value:E}"
                for key, value in values.items()
            ]
            lines += [f"  END_GROUP = {group}"]
        text = "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END"])
    (product / f"{name}_MTL.{form}").write_text(text, encoding="utf-8")
    return product

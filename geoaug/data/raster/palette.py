"""Rasters with a palette: numbers that stand for colours, seen as the colours.

GDAL's name of such a view is `vrt://FILE?expand=rgba`; here it is opened so that each handle reads the file through one
of its own, as threads use them at once. Whether a palette is one of classes or of a picture, only a person knows.
"""

import re
from xml.sax.saxutils import escape

from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

_EXPANDED = re.compile(r"vrt://(.+)\?expand=rgba")
_COLOURS = ("Red", "Green", "Blue", "Alpha")


def has_palette(dataset: DatasetReader) -> bool:
    """Whether a raster of one band holds the numbers of a palette."""
    return bool(dataset.count == 1 and dataset.colorinterp[0] == ColorInterp.palette)


def expanded(path: str) -> str:
    """The path of the colours of a raster with a palette: red, green, blue, and alpha, 0 where the number is nodata."""
    return f"vrt://{path}?expand=rgba"


def file_of_expanded(path: str) -> str | None:
    """The raster whose colours a path names; None where it names another thing."""
    found = _EXPANDED.fullmatch(path)
    return None if found is None else found[1]


def colours_of(dataset: DatasetReader) -> str:
    """A virtual raster of the four bands of a palette, as GDAL opens it.

    Raises:
        ValueError: the raster has no palette.
    """
    if not has_palette(dataset):
        raise ValueError("it has no palette")
    table = dataset.colormap(1)
    entries = "".join(
        f'<Entry c1="{red}" c2="{green}" c3="{blue}" c4="{alpha}"/>'
        for red, green, blue, alpha in (table.get(number, (0, 0, 0, 255)) for number in range(max(table) + 1))
    )
    name = f'<SourceFilename relativeToVRT="0" shared="0">{escape(dataset.name)}</SourceFilename>'
    nodata = "" if dataset.nodata is None else f"<NODATA>{dataset.nodata!r}</NODATA>"
    size = f'rasterXSize="{dataset.width}" rasterYSize="{dataset.height}"'
    dtype = "Byte" if dataset.dtypes[0] == "uint8" else "UInt16"
    numbers = (
        f'<VRTDataset {size}><VRTRasterBand dataType="{dtype}" band="1"><ColorInterp>Palette</ColorInterp>'
        f"<ColorTable>{entries}</ColorTable><SimpleSource>{name}<SourceBand>1</SourceBand></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    source = (
        f'<SourceFilename relativeToVRT="0" shared="0">{escape(numbers)}</SourceFilename><SourceBand>1</SourceBand>'
    )
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number}"><ColorInterp>{colour}</ColorInterp><ComplexSource>{source}'
        f"{nodata}<ColorTableComponent>{number}</ColorTableComponent></ComplexSource></VRTRasterBand>"
        for number, colour in enumerate(_COLOURS, start=1)
    )
    wkt = "" if dataset.crs is None else f"<SRS>{escape(dataset.crs.to_wkt())}</SRS>"
    order = ("c", "a", "b", "f", "d", "e")
    place = ",".join(repr(getattr(dataset.transform, name)) for name in order)
    where = "" if dataset.transform.is_identity else f"<GeoTransform>{place}</GeoTransform>"
    return f"<VRTDataset {size}>{wkt}{where}{bands}</VRTDataset>"

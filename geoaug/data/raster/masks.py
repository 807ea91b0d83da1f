"""Masks and alpha bands of files: which there are, and how all of them reach GDAL's warper.

GDAL knows one source of validity for a band: its mask, else its nodata value, else an alpha band that is the second of
two or the fourth of four. Its warper goes by a nodata value or by a mask, not by both. Here validity is the
intersection of all of them, for any number of bands. Pixels are read in `geoaug.data.raster.blocks`.
"""

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader

_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "uint64": "UInt64",
    "int64": "Int64",
    "float32": "Float32",
    "float64": "Float64",
    "complex_int16": "CInt16",
    "complex64": "CFloat32",
    "complex128": "CFloat64",
}


def is_mask(flags: Sequence[MaskFlags], *, alpha: bool) -> bool:
    """Whether GDAL's mask of a band says more than its nodata value does.

    Args:
        flags: of the mask.
        alpha: whether an alpha band that GDAL takes for the mask counts as one.
    """
    if MaskFlags.alpha in flags:
        return alpha
    if MaskFlags.all_valid in flags:
        return False
    return MaskFlags.nodata not in flags or MaskFlags.per_dataset in flags  # both: values of all bands together


def with_validity(
    dataset: DatasetReader, index: int, *, has_mask: bool, alpha: int | None, nodata: float | None
) -> str | None:
    """A virtual raster of the file's bands whose mask is the intersection of all that tells the validity of one.

    Args:
        dataset: the file.
        index: of the band whose validity is meant, from 1.
        has_mask: whether the file has a mask or an alpha band for it.
        alpha: the index of its alpha band.
        nodata: the stored value that is no data, NaN included.

    Returns:
        The XML of the virtual raster, which GDAL opens, and none of whose bands is marked as alpha; None where the file
        serves as it is.
    """
    path = dataset.name
    masks: list[tuple[str, str]] = []  # rasters and bands of them, 0 where a pixel is invalid, else 255
    if has_mask:
        if is_mask(dataset.mask_flag_enums[index - 1], alpha=alpha is None):
            masks.append((path, f"mask,{index}"))
        if alpha is not None:
            table = _source(path, str(alpha), "<LUT>0:0,1:255</LUT>")  # whatever is not 0 is ground
            masks.append((_virtual(dataset, _band("Byte", 1, table)), "1"))
    if not masks and ColorInterp.alpha not in dataset.colorinterp:
        return None
    wanted = _TYPES[dataset.dtypes[index - 1]]
    bands = "".join(
        _band(_TYPES[dtype], number, _source(path, str(number))) for number, dtype in enumerate(dataset.dtypes, start=1)
    )
    if not masks:
        return _virtual(dataset, bands, placed=True)
    values = set() if nodata is None or math.isnan(nodata) else {repr(float(nodata))}
    if wanted.startswith(("Float", "CFloat")):
        values.add("nan")
    for value in sorted(values):
        known = _band(wanted, 1, f"<NoDataValue>{value}</NoDataValue>", _source(path, str(index)))
        masks.append((_virtual(dataset, known), "mask,1"))
    # Each is laid over those before it wherever it is 0, so that invalid pixels add up.
    laid = [_source(*masks[0]), *(_source(*mask, "<NODATA>255</NODATA>") for mask in masks[1:])]
    return _virtual(dataset, f"{bands}<MaskBand>{_band('Byte', None, *laid)}</MaskBand>", placed=True)


def _band(dtype: str, number: int | None, *content: str) -> str:
    """The XML of a band; of a mask, which has no number, where that is None."""
    place = "" if number is None else f' band="{number}"'
    return f'<VRTRasterBand dataType="{dtype}"{place}>{"".join(content)}</VRTRasterBand>'


def _source(path: str, band: str, more: str = "") -> str:
    """A band of a file; of a handle of its own, as handles of shared ones would be used by several threads at once."""
    kind = "ComplexSource" if more else "SimpleSource"
    name = f'<SourceFilename relativeToVRT="0" shared="0">{escape(path)}</SourceFilename>'
    return f"<{kind}>{name}<SourceBand>{band}</SourceBand>{more}</{kind}>"


def _virtual(dataset: DatasetReader, content: str, *, placed: bool = False) -> str:
    size = f'rasterXSize="{dataset.width}" rasterYSize="{dataset.height}"'
    return f"<VRTDataset {size}>{_place(dataset) if placed else ''}{content}</VRTDataset>"


def _place(dataset: DatasetReader) -> str:
    """The CRS and the geotransform, or the ground control points or RPCs of a raster without one."""
    wkt = "" if dataset.crs is None else f"<SRS>{escape(dataset.crs.to_wkt())}</SRS>"
    points, crs = dataset.gcps
    rpcs = "".join(f"<MDI key={quoteattr(key)}>{escape(value)}</MDI>" for key, value in dataset.tags(ns="RPC").items())
    if not dataset.transform.is_identity or not (points or rpcs):
        order = ("c", "a", "b", "f", "d", "e")
        return (
            wkt + f"<GeoTransform>{','.join(repr(getattr(dataset.transform, name)) for name in order)}</GeoTransform>"
        )
    if points:
        listed = "".join(
            f'<GCP Id="{number}" Pixel="{point.col!r}" Line="{point.row!r}" X="{point.x!r}" Y="{point.y!r}" '
            f'Z="{point.z or 0.0!r}"/>'
            for number, point in enumerate(points)
        )
        projection = quoteattr("" if crs is None else crs.to_wkt())
        return wkt + f"<GCPList Projection={projection}>{listed}</GCPList>"
    return wkt + f'<Metadata domain="RPC">{rpcs}</Metadata>'

"""One pass over all pixels of a catalog: where its scenes are valid, which classes lie where, and statistics of bands.

What is counted is in `geoaug.data.surveys.coverage` and `geoaug.data.surveys.stats`, the pass itself in
`geoaug.data.surveys.survey_pass`, and how regions are read in `geoaug.data.surveys.scan`. Pixels are always read at
full resolution: an overview may hide the one valid pixel of a cell, or make one up.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio

from geoaug.data.catalogs.arrow_arrays import to_numpy
from geoaug.data.catalogs.catalog import Catalog
from geoaug.data.labels.label_source import LabelSource, open_labels
from geoaug.data.labels.tile_labels import TileLabels
from geoaug.data.scenes.bands import band_list
from geoaug.data.surveys.scan import Scan
from geoaug.data.surveys.survey_pass import Measured, Progress, StatisticsPlan, Survey, SurveyPass
from geoaug.errors import ConfigurationError
from geoaug.statistics import PERCENTILES, Statistics

_GDAL_SHARE, _LEAST_GDAL_MB = 4, 16

__all__ = ["StatisticsPlan", "Survey", "catalog_statistics", "survey_catalog"]


def survey_catalog(
    catalog: Catalog,
    *,
    bands: Sequence[str] | str | None = None,
    labels: str | Path | LabelSource | None = None,
    label_field: str | None = None,
    classes: Sequence[int] | int | None = None,
    ignore_index: int = 255,
    dtype: str | None = None,
    coverage: bool = True,
    statistics: StatisticsPlan | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    threads: int | None = None,
    memory_mb: int = 1024,
    progress: Progress | None = None,
) -> Survey:
    """Read every scene once, block by block, and add what was found to the catalog.

    Pixels are those that `TileDataset` gives with the same bands, labels and dtype: bands of other resolutions on the
    grid of the finest, numbers in the scaling of `dataset.sensor`, valid where all bands are. Scenes of which no
    statistics are wanted may have any bands, types and scalings. Memory stays near `memory_mb`, however large the
    scenes.

    Args:
        catalog: of the scenes.
        bands: names or aliases; those of the first scene, unless told.
        labels: of all scenes, as for `TileDataset`; where None, the raster of each scene that has one.
        label_field: attribute of a vector file that holds the class.
        classes: the ids that labels may hold besides `ignore_index`, or their number; any, unless told.
        ignore_index: where there is no label.
        dtype: numpy's name; the stored type, unless told.
        coverage: whether validity and classes are wanted.
        statistics: which are wanted; none, unless told.
        on_error: "raise", or "skip": what cannot be read counts as not valid, and in `Survey.skipped`.
        threads: that read and count; as many as this process may use cores, unless told.
        memory_mb: for the pixels in work.
        progress: told (pixels done, of all), in this thread.

    Raises:
        ConfigurationError: the scenes do not fit together, or a sample is to be surveyed.
        RasterError: a scene cannot be read.
    """
    if on_error not in ("raise", "skip"):
        raise ConfigurationError(f"on_error is {on_error!r}: it must be 'raise' or 'skip'")
    if statistics is not None and not 0 < statistics.share <= 1:
        raise ConfigurationError(
            f"share is {statistics.share}: it is the part of the regions to read, above 0, up to 1"
        )
    if coverage and statistics is not None and statistics.share < 1:
        raise ConfigurationError("a sample of the regions does not tell where scenes are valid: share must be 1")
    wanted = None if bands is None else [str(name) for name in band_list(bands) or ()]
    measured = None
    if statistics is not None:
        measured = Measured.of(catalog, statistics, wanted, dtype, skip=on_error == "skip")
    work = SurveyPass(
        catalog,
        wanted,
        measured,
        _open_labels(catalog, labels, label_field, classes, ignore_index),
        ignore_index,
        coverage,
        Scan(threads=threads, memory_mb=memory_mb, on_error=on_error),
    )
    try:
        with _bounded_gdal(memory_mb):
            return work.run(progress)
    finally:
        if work.labels is not None:
            work.labels.close()


def _bounded_gdal(memory_mb: int) -> AbstractContextManager[Any]:
    """GDAL keeps blocks that were read, in a twentieth of the machine's memory unless told; here none is read twice."""
    if "GDAL_CACHEMAX" in os.environ:
        return nullcontext()
    bounded: AbstractContextManager[Any] = rasterio.Env(
        GDAL_CACHEMAX=max(memory_mb // _GDAL_SHARE, _LEAST_GDAL_MB) * 2**20
    )
    return bounded


def catalog_statistics(
    catalog: Catalog,
    *,
    percentiles: Sequence[float] = PERCENTILES,
    covariance: bool = False,
    share: float = 1.0,
    seed: int = 0,
    split: str | None = None,
    **options: Any,
) -> Statistics:
    """Statistics of the stored bands of a catalog, or of one of its splits; see `survey_catalog` for the other options.

    `catalog.split("train")` is measured where its windows may lie, as `split="train"` is.
    """
    chosen = catalog if split is None else catalog.split(split)
    plan = StatisticsPlan(chosen, tuple(percentiles), covariance, share, seed)
    found = survey_catalog(chosen, coverage=False, statistics=plan, **options).statistics
    assert found is not None
    return found if split is None else replace(found, split=split)


def _open_labels(
    catalog: Catalog,
    labels: str | Path | LabelSource | None,
    field: str | None,
    classes: Sequence[int] | int | None,
    ignore_index: int,
) -> TileLabels | None:
    allowed = list(range(classes)) if isinstance(classes, int) else classes
    source = open_labels(labels, field=field, ignore_index=ignore_index) if isinstance(labels, str | Path) else labels
    first = None
    if source is None:
        known = np.flatnonzero(to_numpy(catalog.table.column("mask_path").is_valid()))
        if not len(known):
            return None
        first = catalog[int(known[0])]
    return TileLabels(source, classes=allowed, ignore_index=ignore_index, first=first)

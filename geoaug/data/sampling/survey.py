"""One pass over all pixels of a catalog: where its scenes are valid, which classes lie where, and statistics of bands.

What is counted is in `geoaug.data.sampling.coverage` and `geoaug.data.sampling.stats`, and how regions are read in
`geoaug.data.sampling.scan`; here a catalog goes through both, and gets its columns. Pixels are always read at full
resolution: an overview may hide the one valid pixel of a cell, or make one up.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import rasterio
import shapely
from affine import Affine
from rasterio.features import rasterize

from geoaug.data.catalog.arrow_arrays import to_numpy
from geoaug.data.catalog.band_choice import BandChoice, choose_bands_of
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.labels.label_source import LabelSource
from geoaug.data.labels.opening import open_labels
from geoaug.data.labels.tile_labels import TileLabels
from geoaug.data.raster.bands import band_list
from geoaug.data.raster.files import georeference_optional
from geoaug.data.raster.grid import WORLD, Grid
from geoaug.data.raster.record import SceneRecord
from geoaug.data.raster.view import SceneView, scene_view
from geoaug.data.raster.window import Window
from geoaug.data.sampling.coverage import COVERAGE_TYPE, Coverage, CoverageCounter, counts_column, coverage_column
from geoaug.data.sampling.scan import Pixels, Region, Scan, always_valid
from geoaug.data.sampling.stats import Moments, StatisticsTally
from geoaug.errors import ConfigurationError, RasterError
from geoaug.statistics import PERCENTILES, Statistics

__all__ = ["StatisticsPlan", "Survey", "catalog_statistics", "survey_catalog"]


class SurveyColumns:
    """What is found of each scene, encoded at once: 100,000 coverages would fill the memory."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[pa.Array, bytes | None, float, dict[int, int] | None]] = {}

    def add(self, position: int, found: Coverage, grid: Grid, *, labelled: bool) -> None:
        """Take what was found of the scene at a position in the catalog."""
        outline = found.outline(grid)
        self._rows[position] = (
            coverage_column([found]),
            None if outline is None else shapely.to_wkb(outline),
            found.valid_share(grid.height, grid.width),
            found.class_counts if labelled else None,
        )

    def added_to(self, catalog: Catalog) -> Catalog:
        """The catalog with the columns; scenes that were left out have none."""
        nothing = (pa.nulls(1, COVERAGE_TYPE), None, None, None)
        rows = [self._rows.get(position, nothing) for position in range(len(catalog))]
        catalog = catalog.with_column("coverage", pa.concat_arrays([row[0] for row in rows]))
        catalog = catalog.with_column("valid_geometry", pa.array([row[1] for row in rows], pa.binary()))
        catalog = catalog.with_column("valid_share", pa.array([row[2] for row in rows], pa.float64()))
        if any(row[3] is not None for row in rows):
            catalog = catalog.with_column("class_counts", counts_column([row[3] for row in rows]))
        return catalog


def chip_classes(
    catalog: Catalog, positions: list[int], names: tuple[str, ...]
) -> tuple[dict[int, int], tuple[str, ...]]:
    """How many of the chips have each class, and the names of the classes."""
    found = catalog.table.column("label").to_pylist()
    texts = Counter(found[position] for position in positions if found[position] is not None)
    listed = names or tuple(sorted(texts))
    return {listed.index(text): count for text, count in sorted(texts.items()) if text in listed}, listed


Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class StatisticsPlan:
    """Which statistics are wanted.

    Attributes:
        of: the scenes, by id, and with a column "region" only the ground there; None for all. The other scenes are
            surveyed alone.
        percentiles: 0 to 100.
        covariance: whether covariances between bands are counted, too.
        share: of the regions (about 1000 x 1000 pixels each) to read, by chance; the means then have an error, which is
            estimated from how the regions differ. The statistics say what was read in the end.
        seed: of that chance.
    """

    of: Catalog | None = None
    percentiles: tuple[float, ...] = PERCENTILES
    covariance: bool = False
    share: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Survey:
    """What a pass over the pixels found.

    Attributes:
        catalog: with the columns `coverage`, `valid_geometry`, `valid_share` and `class_counts`, where they were
            wanted.
        statistics: None where they were not wanted.
        skipped: what could not be read, by reason, and how many regions of it; such count as not valid.
    """

    catalog: Catalog
    statistics: Statistics | None
    skipped: Counter[str] = field(default_factory=Counter)


class _Counted(NamedTuple):
    cells: CoverageCounter | None
    moments: Moments | None
    classes: Counter[int]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The scenes that statistics are of.

    Attributes:
        plan: of the statistics.
        choice: of their bands, in one type and scaling.
        scene: position in the choice, by position in the catalog that is surveyed.
        inside: the ground (WGS 84) that counts, by position in the catalog; None for all of a scene.
        tally: of what is counted.
    """

    plan: StatisticsPlan
    choice: BandChoice
    scene: dict[int, int]
    inside: dict[int, shapely.Geometry | None]
    tally: StatisticsTally

    @staticmethod
    def of(
        catalog: Catalog, plan: StatisticsPlan, wanted: list[str] | None, dtype: str | None, *, skip: bool
    ) -> "Measured":
        part = catalog if plan.of is None else plan.of
        choice = choose_bands_of(part, wanted, dtype, skip=skip)
        positions = {name: position for position, name in enumerate(catalog.ids)}
        names = part.ids
        missing = [name for name in names if name not in positions]
        if missing:
            raise ConfigurationError(f"statistics are wanted of scene '{missing[0]}', which the catalog does not hold")
        ground = [None] * len(part)
        if "region" in part.table.column_names:
            column = part.table.column("region").to_pylist()
            ground = [None if wkb is None else shapely.from_wkb(wkb) for wkb in column]
        scene = {positions[names[kept]]: number for number, kept in enumerate(choice.kept.tolist())}
        inside = {positions[names[kept]]: ground[kept] for kept in choice.kept.tolist()}
        tally = StatisticsTally(choice.sensor, choice.dtype, covariance=plan.covariance)
        return Measured(plan, choice, scene, inside, tally)

    def view(self, position: int, record: SceneRecord) -> SceneView:
        """A scene as its tiles are read."""
        number = self.scene[position]
        return scene_view(
            self.choice.select(record, number),
            self.choice.grid(number, record.grid.crs),
            dtype=self.choice.dtype,
            shift=self.choice.shift(number),
        )


class SurveyPass:
    """The pass of one survey."""

    def __init__(
        self,
        catalog: Catalog,
        wanted: list[str] | None,
        measured: Measured | None,
        labels: TileLabels | None,
        ignore_index: int,
        coverage: bool,
        scan: Scan,
    ) -> None:
        self.catalog, self.wanted, self.measured = catalog, wanted, measured
        self.labels, self.ignore_index = labels, ignore_index
        self.coverage, self.scan = coverage, scan
        if measured is not None:
            self.scan.skipped.update(f"scene '{name}': {why}" for name, why in measured.choice.left_out.items())
        self._read = self._passed = 0  # regions, and those that a sample goes by
        self._own_grids: dict[int, Grid] = {}
        self._columns = SurveyColumns()

    def run(self, progress: Progress | None) -> Survey:
        """Read, count, and put together."""
        sizes = self.catalog.column("height").astype(np.int64) * self.catalog.column("width")
        if not self.coverage and self.measured is not None:
            sizes[np.setdiff1d(np.arange(len(sizes)), list(self.measured.scene))] = 0
        before = np.concatenate([[0], np.cumsum(sizes)])
        total, at = int(before[-1]), -1
        cells: CoverageCounter | None = None
        classes: Counter[int] = Counter()
        scenes: set[int] = set()
        for region, counted in self.scan.run(self._regions(), self._count):
            if region.scene != at:
                self._finish_scene(at, cells)
                at, cells = region.scene, None
            if self.coverage:
                cells = cells or self._counter(at)
            if counted is not None:
                if cells is not None and counted.cells is not None:
                    cells.merge(counted.cells)
                if counted.moments is not None and self.measured is not None:
                    self.measured.tally.add(counted.moments)
                    scenes.add(at)
                classes.update(counted.classes)
            if progress is not None:
                stop = region.window.row_stop * region.view.grid.width
                progress(int(before[at] + sizes[at] * stop / (region.view.grid.height * region.view.grid.width)), total)
        self._finish_scene(at, cells)
        if progress is not None:
            progress(total, total)
        return Survey(self._catalog(), self._statistics(len(scenes), classes), self.scan.skipped)

    def _regions(self) -> Iterator[Region]:
        plan = StatisticsPlan() if self.measured is None else self.measured.plan
        every = _Every(plan.share, plan.seed)
        for position in range(len(self.catalog)):
            measured = self.measured is not None and position in self.measured.scene
            if not self.coverage and not measured:
                continue
            record = self.catalog[position]
            own = self._own_grids[position] = record.grid
            if measured and self.measured is not None:
                view = self.measured.view(position, record)
            else:
                found = self._own_view(record)
                if found is None:
                    continue
                view = found
            if not measured and self.labels is None and always_valid(view):
                self._columns.add(position, Coverage.full(own.height, own.width), own, labelled=False)
                continue
            if self.labels is not None and not self._labelled(view):
                continue
            for window in self.scan.windows(view):
                if every.next():
                    self._read += 1
                    yield Region(position, view, window)
                else:
                    self._passed += 1

    def _labelled(self, view: SceneView) -> bool:
        """Whether the labels reach a scene; where not, it is left out, or an error."""
        assert self.labels is not None
        try:
            self.labels.check_place(view.record, view.grid)
        except RasterError as error:
            if self.scan.on_error == "raise":
                raise
            self.scan.skipped[str(error)] += 1
            return False
        return True

    def _own_view(self, record: SceneRecord) -> SceneView | None:
        """A scene whose numbers are not looked at, so that it need not be like others."""
        try:
            chosen = record if self.wanted is None else record.select(self.wanted)
        except ConfigurationError as error:
            if self.scan.on_error == "raise":
                raise
            self.scan.skipped[f"scene '{record.id}': {error}"] += 1
            return None
        dtype = str(np.result_type(*(band.dtype for band in chosen.bands)))
        return scene_view(chosen, chosen.grid, dtype=dtype, shift=[0] * len(chosen.bands))

    def _count(self, region: Region, pixels: Pixels) -> _Counted:
        window, view, valid = region.window, region.view, pixels.valid
        grid = view.grid.crop(window)
        labels = None
        if self.labels is not None and valid.any():
            labels = np.empty(valid.shape, dtype=self.labels.dtype)
            self.labels.read(view.record, grid, labels)
        cells = None
        if self.coverage and valid.any():
            cells = self._counter(region.scene)
            factor = _factor(self._own_grids[region.scene], view)
            cells.add(
                window.row * factor,
                window.col * factor,
                _enlarged(valid, factor, cells, window),
                None if labels is None else _enlarged(labels, factor, cells, window),
            )
        if self.measured is None or region.scene not in self.measured.scene:
            return _Counted(cells, None, Counter())
        inside = self.measured.inside[region.scene]
        if inside is not None:
            valid = valid & _drawn(inside, grid)
        found: Counter[int] = Counter()
        if labels is not None:
            numbers, counts = np.unique(labels[valid], return_counts=True)
            found.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
            del found[self.ignore_index]
        return _Counted(cells, self.measured.tally.count(pixels.image, valid), found)

    def _counter(self, position: int) -> CoverageCounter:
        own = self._own_grids[position]
        return CoverageCounter(own.height, own.width, ignore_index=self.ignore_index)

    def _finish_scene(self, position: int, cells: CoverageCounter | None) -> None:
        if cells is not None:
            self._columns.add(position, cells.coverage(), self._own_grids[position], labelled=self.labels is not None)
        self._own_grids.pop(position, None)

    def _catalog(self) -> Catalog:
        if not self.coverage:
            return self.catalog
        catalog = self._columns.added_to(self.catalog)
        names = _class_names(self.labels)
        return catalog.with_notes(classes=names) if names and not catalog.classes else catalog

    def _statistics(self, scenes: int, classes: Counter[int]) -> Statistics | None:
        if self.measured is None:
            return None
        names = self.catalog.classes or tuple(_class_names(self.labels))
        counts = dict(sorted(classes.items()))
        if self.labels is None:
            counts, names = chip_classes(self.catalog, list(self.measured.scene), names)
        share = self._read / max(self._read + self._passed, 1)
        percentiles = self.measured.plan.percentiles
        return self.measured.tally.finish(percentiles, scenes=scenes, share=share, class_counts=counts, classes=names)


class _Every:
    """Takes a share by chance: so many of every few, the fewest by which the share comes out to a hundredth."""

    def __init__(self, share: float, seed: int) -> None:
        self._part = next(
            part
            for part in (Fraction(share).limit_denominator(most) for most in itertools.count(max(1, int(0.99 / share))))
            if abs(part - share) <= share / 100
        )
        self._random = np.random.default_rng(seed)
        self._coming: list[bool] = []

    def next(self) -> bool:
        if not self._coming:
            taken = np.arange(self._part.denominator) < self._part.numerator
            self._coming = self._random.permutation(taken).tolist()
        return self._coming.pop()


def _class_names(labels: TileLabels | None) -> list[str]:
    """Names by id, where the source of the labels names them from 0 on."""
    names: Mapping[int, str] = {} if labels is None or labels.source is None else labels.source.class_names
    return [names[number] for number in range(len(names))] if set(names) == set(range(len(names))) else []


def _factor(own: Grid, view: SceneView) -> int:
    """How many pixels of a scene's own grid a pixel of the wanted bands is high and wide."""
    grid = view.grid
    factor = round(own.height / grid.height)
    same_corner = (own.transform.c, own.transform.f) == (grid.transform.c, grid.transform.f)
    if not same_corner or -(-own.height // factor) != grid.height or -(-own.width // factor) != grid.width:
        raise ConfigurationError(
            f"scene '{view.record.id}': the finest of the bands {' '.join(view.record.band_names)} does not lie on the "
            "grid of the scene's finest band, on which validity is kept: name that band, too"
        )
    return factor


def _drawn(shape: shapely.Geometry, grid: Grid) -> npt.NDArray[np.bool_]:
    """Where the pixel centres of a grid lie in a shape (WGS 84)."""
    if grid.crs is not None:
        shape, grid = grid.in_pixels(shape, WORLD), Grid(None, Affine.identity(), grid.height, grid.width)
    if shape.is_empty:
        return np.zeros((grid.height, grid.width), dtype=bool)
    with georeference_optional():
        drawn = rasterize([(shape, 1)], out_shape=(grid.height, grid.width), transform=grid.transform, dtype="uint8")
    return np.asarray(drawn == 1)


def _enlarged(pixels: npt.NDArray[Any], factor: int, cells: CoverageCounter, window: Window) -> npt.NDArray[Any]:
    """Each pixel of a window `factor` times as high and wide, cut where the finer grid ends."""
    if factor == 1:
        return pixels
    larger = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    return larger[: cells.height - window.row * factor, : cells.width - window.col * factor]


_GDAL_SHARE, _LEAST_GDAL_MB = 4, 16


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
        bands: names or aliases; by default those of the first scene.
        labels: of all scenes, as for `TileDataset`; where None, the raster of each scene that has one.
        label_field: attribute of a vector file that holds the class.
        classes: the ids that labels may hold besides `ignore_index`, or their number; by default any.
        ignore_index: where there is no label.
        dtype: numpy's name; by default the stored type.
        coverage: whether validity and classes are wanted.
        statistics: which are wanted; by default none.
        on_error: "raise", or "skip": what cannot be read counts as not valid, and in `Survey.skipped`.
        threads: that read and count; by default one for each core of this process.
        memory_mb: for the pixels in work.
        progress: called with (pixels done, of all), in this thread.

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
    """GDAL keeps blocks that were read, in a twentieth of the machine's memory by default; here none is read twice."""
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

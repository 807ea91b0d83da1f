"""One pass over all pixels of a catalog: where its scenes are valid, which classes lie where, and statistics of bands.

What is counted is in `geoaug.data.coverage` and `geoaug.data.stats`, how regions are read in `geoaug.data.scan`. Pixels
are always read at full resolution: an overview may hide the one valid pixel of a cell, or make one up.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely
from rasterio.features import rasterize

from geoaug.data.band_choice import BandChoice, choose_bands_of
from geoaug.data.bands import band_list
from geoaug.data.catalog import Catalog
from geoaug.data.coverage import COVERAGE_TYPE, Coverage, CoverageCounter, counts_column, coverage_column
from geoaug.data.grids import reproject_points, same_crs
from geoaug.data.labels import LabelSource, open_labels
from geoaug.data.opening import georeference_optional
from geoaug.data.records import Grid
from geoaug.data.scan import Pixels, Region, Scan, always_valid
from geoaug.data.stats import Moments, StatisticsTally
from geoaug.data.tile_labels import TileLabels
from geoaug.data.views import scene_view
from geoaug.data.windows import Window
from geoaug.errors import ConfigurationError
from geoaug.statistics import PERCENTILES, Statistics

Progress = Callable[[int, int], None]

_WGS84 = "EPSG:4326"


@dataclass(frozen=True, slots=True)
class StatisticsPlan:
    """Which statistics are wanted.

    Attributes:
        of: the scenes, by id, and with a column "region" only the ground there; None for all. The other scenes are
            surveyed alone.
        percentiles: 0 to 100.
        covariance: whether covariances between bands are counted, too.
        share: of the regions (about 1000 x 1000 pixels each) to read, one by chance of every 1 / share; the means then
            have an error, which is estimated from how the regions differ.
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


def survey(
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
    grid of the finest, numbers in the scaling of `dataset.sensor`, valid where all bands are. Memory stays near
    `memory_mb`, however large the scenes.

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
    choice = choose_bands_of(catalog, wanted, dtype, skip=on_error == "skip")
    work = _Pass(
        catalog,
        choice,
        _open_labels(catalog, labels, label_field, classes, ignore_index),
        ignore_index,
        coverage,
        statistics,
        Scan(choice.dtype, threads=threads, memory_mb=memory_mb, on_error=on_error),
    )
    try:
        return work.run(progress)
    finally:
        if work.labels is not None:
            work.labels.close()


def measure_statistics(
    catalog: Catalog,
    *,
    percentiles: Sequence[float] = PERCENTILES,
    covariance: bool = False,
    share: float = 1.0,
    seed: int = 0,
    split: str | None = None,
    **options: Any,
) -> Statistics:
    """Statistics of the bands of a catalog, or of one of its splits; see `survey` for the other options.

    `catalog.split("train")` is measured where its windows may lie, as `split="train"` is.
    """
    chosen = catalog if split is None else catalog.split(split)
    plan = StatisticsPlan(chosen, tuple(percentiles), covariance, share, seed)
    found = survey(chosen, coverage=False, statistics=plan, **options).statistics
    assert found is not None
    return found if split is None else replace(found, split=split)


class _Counted(NamedTuple):
    cells: CoverageCounter | None
    moments: Moments | None
    classes: Counter[int]


class _Pass:
    """The pass of one survey."""

    def __init__(
        self,
        catalog: Catalog,
        choice: BandChoice,
        labels: TileLabels | None,
        ignore_index: int,
        coverage: bool,
        plan: StatisticsPlan | None,
        scan: Scan,
    ) -> None:
        self.catalog, self.choice, self.labels, self.ignore_index = catalog, choice, labels, ignore_index
        self.coverage, self.plan, self.scan = coverage, plan, scan
        self.tally = None
        if plan is not None:
            self.tally = StatisticsTally(choice.sensor, choice.dtype, covariance=plan.covariance)
        self._inside = _regions(catalog, None if plan is None else plan.of)
        self._crs = catalog.column("crs")
        self._found: dict[int, Coverage] = {}
        self._own_grids: dict[int, Grid] = {}
        self._columns = _Columns()

    def run(self, progress: Progress | None) -> Survey:
        """Read, count, and put together."""
        sizes = self.choice.height * self.choice.width
        total, done, at = int(sizes.sum()), 0, -1
        cells: CoverageCounter | None = None
        classes: Counter[int] = Counter()
        scenes: set[int] = set()
        for region, counted in self.scan.run(self._regions(), self._count):
            if region.scene != at:
                self._finish_scene(at, cells)
                at, cells = region.scene, None
                done = int(sizes[:at].sum())
            if self.coverage:
                cells = cells or self._counter(at, region.view.grid)
                if counted is not None and counted.cells is not None:
                    cells.merge(counted.cells)
            if counted is not None and counted.moments is not None and self.tally is not None:
                self.tally.add(counted.moments)
                scenes.add(at)
            classes.update({} if counted is None else counted.classes)
            done += region.window.height * region.window.width
            if progress is not None:
                progress(min(done, total), total)
        self._finish_scene(at, cells)
        if progress is not None:
            progress(total, total)
        return Survey(self._catalog(), self._statistics(len(scenes), classes), self.scan.skipped)

    def _regions(self) -> Iterator[Region]:
        share = 1.0 if self.plan is None else self.plan.share
        every = _Every(share, 0 if self.plan is None else self.plan.seed)
        for scene, place in enumerate(self.choice.kept.tolist()):
            if not self.coverage and place not in self._inside:
                continue
            record = self.catalog[place]
            grid = self.choice.grid(scene, self._crs[place])
            self._own_grids[scene] = record.grid
            view = scene_view(self.choice.select(record), grid, dtype=self.choice.dtype, shift=self.choice.shift(scene))
            if self.tally is None and self.labels is None and always_valid(view):
                own = record.grid
                self._finish_scene(scene, None, Coverage.full(own.height, own.width))
                continue
            yield from (Region(scene, view, window) for window in self.scan.windows(view) if every.next())

    def _count(self, region: Region, pixels: Pixels) -> _Counted:
        place = int(self.choice.kept[region.scene])
        window, view, valid = region.window, region.view, pixels.valid
        labels = None
        grid = view.grid.shifted(window.row, window.col, window.height, window.width)
        if self.labels is not None and valid.any():
            labels = np.empty(valid.shape, dtype=self.labels.dtype)
            self.labels.read(view.record, grid, labels)
        cells = None
        if self.coverage and valid.any():
            cells = self._counter(region.scene, view.grid)
            factor = self._factor(region.scene, view.grid)
            cells.add(
                window.row * factor,
                window.col * factor,
                _enlarged(valid, factor, cells, window),
                None if labels is None else _enlarged(labels, factor, cells, window),
            )
        if self.tally is None or place not in self._inside:
            return _Counted(cells, None, Counter())
        inside = self._inside[place]
        if inside is not None:
            valid = valid & _drawn(inside, grid)
        found: Counter[int] = Counter()
        if labels is not None:
            numbers, counts = np.unique(labels[valid], return_counts=True)
            found.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
            del found[self.ignore_index]
        return _Counted(cells, self.tally.count(pixels.image, valid), found)

    def _factor(self, scene: int, grid: Grid) -> int:
        """How many pixels of the scene's own grid a pixel of the wanted bands is high and wide."""
        own = self._own_grids[scene]
        factor = round(own.height / grid.height)
        same_corner = (own.transform.c, own.transform.f) == (grid.transform.c, grid.transform.f)
        if not same_corner or -(-own.height // factor) != grid.height or -(-own.width // factor) != grid.width:
            raise ConfigurationError(
                f"scene '{self.catalog.ids[int(self.choice.kept[scene])]}': the finest of the bands "
                f"{' '.join(self.choice.names)} does not lie on the grid of the scene's finest band, on which validity "
                "is kept: name that band, too"
            )
        return factor

    def _counter(self, scene: int, grid: Grid) -> CoverageCounter:
        own = self._own_grids[scene]
        return CoverageCounter(own.height, own.width, ignore_index=self.ignore_index)

    def _finish_scene(self, scene: int, cells: CoverageCounter | None, known: Coverage | None = None) -> None:
        if cells is not None:
            known = cells.coverage()
        if known is not None and self.coverage:
            place = int(self.choice.kept[scene])
            self._columns.add(place, known, self._own_grids[scene], labelled=self.labels is not None)

    def _catalog(self) -> Catalog:
        if not self.coverage:
            return self.catalog
        catalog = self._columns.added_to(self.catalog)
        names = _class_names(self.labels)
        return catalog.with_notes(classes=names) if names and not catalog.classes else catalog

    def _statistics(self, scenes: int, classes: Counter[int]) -> Statistics | None:
        if self.tally is None or self.plan is None:
            return None
        names = self.catalog.classes or tuple(_class_names(self.labels))
        counts = dict(sorted(classes.items()))
        if self.labels is None:
            counts, names = _chips(self.catalog, list(self._inside), names)
        return self.tally.finish(
            self.plan.percentiles, scenes=scenes, share=self.plan.share, class_counts=counts, classes=names
        )


class _Every:
    """Takes one by chance of every n."""

    def __init__(self, share: float, seed: int) -> None:
        self._size = max(1, round(1 / share))
        self._random = np.random.default_rng(seed)
        self._left, self._until = 0, 0

    def next(self) -> bool:
        if not self._left:
            self._left, self._until = self._size, int(self._random.integers(self._size))
        self._left -= 1
        self._until -= 1
        return self._until == -1


class _Columns:
    """What is found of each scene, encoded at once: 100,000 coverages would fill the memory."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[pa.Array, bytes | None, float, dict[int, int] | None]] = {}

    def add(self, place: int, found: Coverage, grid: Grid, *, labelled: bool) -> None:
        outline = found.outline(grid)
        self._rows[place] = (
            coverage_column([found]),
            None if outline is None else shapely.to_wkb(outline),
            found.valid_share(grid.height, grid.width),
            found.class_counts if labelled else None,
        )

    def added_to(self, catalog: Catalog) -> Catalog:
        """The catalog with the columns; scenes that were left out have none."""
        nothing = (pa.nulls(1, COVERAGE_TYPE), None, None, None)
        rows = [self._rows.get(place, nothing) for place in range(len(catalog))]
        catalog = catalog.with_column("coverage", pa.concat_arrays([row[0] for row in rows]))
        catalog = catalog.with_column("valid_geometry", pa.array([row[1] for row in rows], pa.binary()))
        catalog = catalog.with_column("valid_share", pa.array([row[2] for row in rows], pa.float64()))
        if any(row[3] is not None for row in rows):
            catalog = catalog.with_column("class_counts", counts_column([row[3] for row in rows]))
        return catalog


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
        known = np.flatnonzero(catalog.table.column("mask_path").is_valid().to_numpy())
        if not len(known):
            return None
        first = catalog[int(known[0])]
    return TileLabels(source, classes=allowed, ignore_index=ignore_index, first=first)


def _class_names(labels: TileLabels | None) -> list[str]:
    """Names by id, where the source of the labels names them from 0 on."""
    names: Mapping[int, str] = {} if labels is None or labels.source is None else labels.source.class_names
    return [names[number] for number in range(len(names))] if set(names) == set(range(len(names))) else []


def _chips(catalog: Catalog, places: list[int], names: tuple[str, ...]) -> tuple[dict[int, int], tuple[str, ...]]:
    """How many of the chips have each class, and the names of the classes."""
    found = catalog.table.column("label").to_pylist()
    texts = Counter(found[place] for place in places if found[place] is not None)
    listed = names or tuple(sorted(texts))
    return {listed.index(text): count for text, count in sorted(texts.items()) if text in listed}, listed


def _regions(catalog: Catalog, of: Catalog | None) -> dict[int, shapely.Geometry | None]:
    """The places of the scenes that statistics are of, with the ground (WGS 84) that counts; None for all of it."""
    if of is None:
        return dict.fromkeys(range(len(catalog)))
    places = {name: place for place, name in enumerate(catalog.ids)}
    ground = [None] * len(of)
    if "region" in of.table.column_names:
        ground = [None if wkb is None else shapely.from_wkb(wkb) for wkb in of.table.column("region").to_pylist()]
    missing = [name for name in of.ids if name not in places]
    if missing:
        raise ConfigurationError(f"statistics are wanted of scene '{missing[0]}', which the catalog does not hold")
    return {places[name]: shape for name, shape in zip(of.ids, ground, strict=True)}


def _drawn(shape: shapely.Geometry, grid: Grid) -> npt.NDArray[np.bool_]:
    """Where the pixel centres of a grid lie in a shape (WGS 84)."""
    if grid.crs is not None and not same_crs(grid.crs, _WGS84):
        crs = grid.crs
        shape = shapely.transform(shape, lambda xy: np.stack(reproject_points(xy[:, 0], xy[:, 1], _WGS84, crs), axis=1))
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

"""A catalog on a map: footprints, valid ground and splits in longitude and latitude, with a scale and a legend.

Where the scenes lie in regions far apart, the most crowded ones have maps of their own beside the whole. No basemap:
nothing is fetched.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter, MaxNLocator

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.pictures.composites import Colour, class_colours
from geoaug.data.pictures.page import DPI, INK, QUIET
from geoaug.data.raster.meridians import from_edge, map_edge
from geoaug.earth import METRES_PER_DEGREE
from geoaug.errors import ConfigurationError

_SPLIT_COLOURS = {"train": (0.27, 0.47, 0.67), "val": (0.93, 0.60, 0.20), "test": (0.80, 0.20, 0.30)}
_MOST_NAMED = 14
_LEGEND_LETTERS = 130  # in a line
_MOST_PLACES, _APART, _CELLS = 6, 0.15, 200
_SMALLEST = 0.006  # of the map's width; smaller scenes are marked by a point
_SEVERAL = "in several splits"
_FOLD = re.compile(r"fold\d+")
_NICE = (1.0, 2.0, 5.0)
_WIDTH, _MOST_ABREAST = 8.0, 4  # inches, and maps of clusters beside each other


@dataclass(frozen=True, slots=True, eq=False)
class _Shapes:
    """What is drawn of the scenes that have a CRS.

    Attributes:
        outline: (scenes,) footprints.
        filled: (shape, category) of the ground that is coloured.
        category: of each scene.
    """

    outline: npt.NDArray[np.object_]
    filled: list[tuple[shapely.Geometry, str]]
    category: list[str]

    def within(self, bounds: npt.NDArray[np.float64]) -> "_Shapes":
        """What reaches into a box."""
        box = shapely.box(*bounds)
        mine = shapely.intersects(self.outline, box)
        reaching = shapely.intersects(np.array([shape for shape, _ in self.filled], dtype=object), box)
        return _Shapes(
            self.outline[mine],
            [part for part, reaches in zip(self.filled, reaching.tolist(), strict=True) if reaches],
            [name for name, chosen in zip(self.category, mine.tolist(), strict=True) if chosen],
        )


def draw_catalog(catalog: Catalog, *, colour: str = "auto", title: str = "") -> Figure:
    """A map of a catalog.

    Args:
        catalog: of the scenes; valid ground is shown where it was surveyed, and the ground of splits where it was
            split. Of folds each is shown, and not what it is trained with ("fold0-train"), which is the others.
        colour: what colours tell: "split", "crs", or a column; "auto": the split, or else the CRS.
        title: above the map.

    Raises:
        ConfigurationError: no scene has a CRS, or no such column.
    """
    located = np.array([shape is not None for shape in catalog.footprints])
    if not located.any():
        raise ConfigurationError("no scene of this catalog has a place on Earth, so that none can be drawn on a map")
    shapes = _shapes(catalog, located, colour)
    counts = Counter(shapes.category)
    colours = _colours([*counts, *(name for _, name in shapes.filled)])
    clusters = _clusters(shapes.outline)
    bounds = shapely.total_bounds(shapes.outline)
    figure, axes = _sheet(bounds, len(clusters))
    _draw(axes[0], shapes, colours, bounds)
    for letter, cluster, part in zip("ABCDEF", clusters, axes[1:], strict=False):
        inner = shapely.total_bounds(shapes.outline[cluster])
        _draw(part, shapes.within(inner), colours, inner, small=True)
        part.set_title(letter, loc="left", fontsize=8, fontweight="bold", color=INK)
        axes[0].annotate(
            letter, ((inner[0] + inner[2]) / 2, inner[3]), (0, 5), textcoords="offset points", fontsize=8,
            fontweight="bold", color=INK, ha="center",
        )  # fmt: skip
    figure.suptitle(title, fontsize=11, fontweight="bold", color=INK, x=0.01, ha="left")
    notes = []
    elsewhere = len(shapes.outline) - sum(map(len, clusters))
    if clusters and elsewhere:
        last = f" to {'ABCDEF'[len(clusters) - 1]}" if len(clusters) > 1 else ""
        notes.append(f"outside of A{last}: {_scenes(elsewhere)}")
    if not located.all():
        notes.append(f"not shown: {_scenes(int((~located).sum()))} without a CRS")
    _legend(figure, catalog, shapes, counts, colours, notes)
    return figure


def _sheet(bounds: npt.NDArray[np.float64], clusters: int) -> tuple[Figure, list[Axes]]:
    """A figure whose shape suits the map, with axes for the whole and for each of the clusters."""
    west, south, east, north = bounds
    wide = (east - west) * math.cos(math.radians((south + north) / 2)) / max(north - south, 1e-9)
    parts = _WIDTH / max(min(clusters, _MOST_ABREAST), 2) * -(-clusters // _MOST_ABREAST)
    height = float(np.clip(_WIDTH / max(wide, 1e-9), 2.4 if parts else 3.6, 5.0 if parts else 8.0))
    figure = Figure(figsize=(_WIDTH, height + parts + 1.0), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    if not clusters:
        return figure, [figure.subplots()]
    halves: Any = figure.subfigures(2, 1, height_ratios=(height, parts))
    above, below = halves
    axes = [above.subplots()]
    axes += np.ravel(below.subplots(-(-clusters // _MOST_ABREAST), min(clusters, _MOST_ABREAST))).tolist()
    for spare in axes[clusters + 1 :]:
        spare.set_axis_off()
    return figure, axes


def _shapes(catalog: Catalog, located: npt.NDArray[np.bool_], colour: str) -> _Shapes:
    columns = catalog.table.column_names
    chosen = np.flatnonzero(located)
    split_by_ground = "regions" in columns and colour in ("auto", "split")
    if colour == "auto":
        colour = "split" if "split" in columns or split_by_ground else "crs"
    if colour == "split" and "split" not in columns:
        names: list[Any] = [None] * len(catalog)
    elif colour not in columns:
        raise ConfigurationError(f"the catalog has no column '{colour}'; it has {', '.join(columns)}")
    else:
        names = catalog.table.column(colour).to_pylist()
    valid = [None] * len(catalog)
    if "valid_geometry" in columns:
        valid = catalog.table.column("valid_geometry").to_pylist()
    stored = catalog.table.column("regions").to_pylist() if split_by_ground else [None] * len(catalog)
    rest = _trained_with(catalog) if colour == "split" else set()
    regions = [[region for region in found or () if region["split"] not in rest] for found in stored]
    names = [None if name in rest else name for name in names]
    filled: list[tuple[shapely.Geometry, str]] = []
    category = []
    edge = map_edge(catalog.footprints[located])
    outlines = from_edge(catalog.footprints, edge)

    def shape_of(wkb: bytes | None) -> shapely.Geometry | None:
        return from_edge(np.array([shapely.from_wkb(wkb)]), edge)[0]

    for scene in chosen.tolist():
        name = str(names[scene]) if names[scene] is not None else _SEVERAL if regions[scene] else "none"
        category.append(name)
        ground = shape_of(valid[scene])
        if regions[scene]:
            for region in regions[scene]:
                wkb = region["geometry"]
                shape = outlines[scene] if wkb is None else shape_of(wkb)
                # A region reaches somewhat past its scene.
                within = outlines[scene] if ground is None else shapely.make_valid(ground)
                shape = shapely.intersection(shape, within)
                filled.append((shape, str(region["split"])))
        else:
            filled.append((outlines[scene] if ground is None else ground, name))
    return _Shapes(outlines[chosen], filled, category)


def _trained_with(catalog: Catalog) -> set[str]:
    """The splits that are what a fold is trained with, and so the ground of the other folds."""
    names = catalog.split_names
    return {f"{name}-train" for name in names if _FOLD.fullmatch(name)}.intersection(names)


def _colours(names: Iterable[str]) -> dict[str, Colour]:
    found = sorted(set(names))
    others = [name for name in found if name not in _SPLIT_COLOURS and name not in ("none", _SEVERAL)]
    spare = dict(zip(others, class_colours(len(others)), strict=True))
    grey = (0.6, 0.6, 0.6)
    return {name: _SPLIT_COLOURS.get(name) or spare.get(name) or grey for name in found}


def _clusters(outline: npt.NDArray[np.object_]) -> list[npt.NDArray[np.intp]]:
    """Groups of scenes near each other that the whole map cannot show, the largest first; none where it can.

    Where there are many, the most crowded ones of several scenes.
    """
    bounds = shapely.bounds(outline)
    west, south, east, north = shapely.total_bounds(outline)
    reach = float(np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1]).max())
    extent = max(east - west, north - south)
    if reach > _APART * extent:
        return []
    centres = shapely.centroid(outline)
    # Cells as large as the largest scene, with a cell around each: few, however many scenes there are.
    cell = max(reach, extent / _CELLS)
    corner = np.unique(np.floor(shapely.get_coordinates(centres) / cell), axis=0) * cell
    boxes = shapely.box(*(corner - cell).T, *(corner + 2 * cell).T)
    parts = shapely.get_parts(shapely.union_all(boxes))
    sizes = shapely.bounds(parts)
    widest = max((sizes[:, 2] - sizes[:, 0]).max(), (sizes[:, 3] - sizes[:, 1]).max())
    if len(parts) < 2 or widest > 2 * _APART * extent:
        return []
    scene, part = shapely.STRtree(parts).query(centres, predicate="intersects")
    count = np.bincount(part, minlength=len(parts))
    largest = np.argsort(-count, kind="stable")[:_MOST_PLACES]
    if len(parts) > _MOST_PLACES:
        largest = largest[count[largest] > 1]
    return [scene[part == cluster] for cluster in largest]


def _draw(
    axes: Axes, shapes: _Shapes, colours: dict[str, Colour], bounds: npt.NDArray[np.float64], *, small: bool = False
) -> None:
    west, south, east, north = (float(edge) for edge in bounds)
    extent = max(east - west, north - south, 1e-6)
    stretch = 1 / max(math.cos(math.radians((south + north) / 2)), 0.05)
    margin = 0.06 * extent
    axes.set_xlim(west - margin * stretch, east + margin * stretch)
    axes.set_ylim(south - margin * (3.0 if small else 1.8), north + margin)
    axes.set_aspect(stretch)
    patches: dict[str, list[Outline]] = {}
    for shape, name in shapes.filled:
        if not shape.is_empty:
            patches.setdefault(name, []).extend(_outlines(shape))
    for name, paths in patches.items():
        axes.add_collection(PathCollection(paths, facecolors=[(*colours[name], 0.45)], edgecolors="none"))
    edges = [colours[name] for name in shapes.category]
    parts, scene = shapely.get_parts(shapes.outline, return_index=True)
    frames = [edges[number] for number in scene.tolist()]
    corners, ring = shapely.get_coordinates(shapely.get_exterior_ring(parts), return_index=True)
    rings = np.split(corners, np.flatnonzero(np.diff(ring)) + 1)
    axes.add_collection(PolyCollection(rings, facecolors="none", edgecolors=frames, linewidths=0.8))
    size = shapely.bounds(shapes.outline)
    tiny = np.maximum(size[:, 2] - size[:, 0], size[:, 3] - size[:, 1]) < _SMALLEST * extent
    if tiny.any():
        centres = shapely.get_coordinates(shapely.centroid(shapes.outline[tiny]))
        shades = [edges[number] for number in np.flatnonzero(tiny)]
        axes.scatter(centres[:, 0], centres[:, 1], s=9, c=shades, linewidths=0, zorder=3)
    _dress(axes, small=small)


def _outlines(shape: shapely.Geometry) -> list[Outline]:
    """Polygons with their holes as paths."""
    paths = []
    for part in shapely.get_parts(shape):
        if part.geom_type != "Polygon" or part.is_empty:
            continue
        rings = [np.asarray(ring.coords) for ring in (part.exterior, *part.interiors)]
        paths.append(Outline.make_compound_path(*(Outline(ring[:, :2], closed=True) for ring in rings)))
    return paths


def _dress(axes: Axes, *, small: bool) -> None:
    """Degrees at the sides, a fine grid, and a scale bar."""
    axes.set_facecolor("#fafafa")
    axes.grid(color="#e3e3e3", linewidth=0.5)
    axes.set_axisbelow(True)
    for axis, letters in ((axes.xaxis, "EW"), (axes.yaxis, "NS")):
        locator = MaxNLocator(3 if small else 5, steps=[1, 2, 5, 10])
        axis.set_major_locator(locator)
        step = float(np.diff(locator.tick_values(*axis.get_view_interval()))[0])
        digits = max(0, math.ceil(-math.log10(step) - 1e-9))
        axis.set_major_formatter(FuncFormatter(_Degrees(letters, digits)))
    axes.tick_params(labelsize=6 if small else 7, colors=QUIET, length=2)
    for spine in axes.spines.values():
        spine.set_color("#c9c9c9")
    west, east = axes.get_xlim()
    south, north = axes.get_ylim()
    per_degree = METRES_PER_DEGREE / 1000 * max(math.cos(math.radians((south + north) / 2)), 0.05)
    wanted = (east - west) * per_degree / 4
    power = 10.0 ** math.floor(math.log10(wanted))
    length = max(nice * power for nice in _NICE if nice * power <= wanted)
    left, level = west + 0.03 * (east - west), south + 0.04 * (north - south)
    axes.plot([left, left + length / per_degree], [level, level], color=INK, linewidth=2, solid_capstyle="butt")
    words = f"{length:g} km" if length >= 1 else f"{1000 * length:g} m"
    axes.annotate(words, (left, level), (0, 3), textcoords="offset points", fontsize=6.5, color=INK)


class _Degrees:
    """Longitudes and latitudes as people write them."""

    def __init__(self, letters: str, digits: int) -> None:
        self.letters, self.digits = letters, digits

    def __call__(self, value: float, position: int | None = None) -> str:
        if self.letters == "EW":
            value = (value + 180) % 360 - 180  # a map may go on beyond the date line
        letter = "" if abs(value) < 1e-12 or abs(value) == 180 else self.letters[0] if value > 0 else self.letters[1]
        return f"{abs(value):.{self.digits}f}°{letter}"


def _legend(
    figure: Figure,
    catalog: Catalog,
    shapes: _Shapes,
    counts: Counter[str],
    colours: dict[str, Colour],
    notes: Sequence[str],
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    grounds = Counter(name for _, name in shapes.filled)
    names: Sequence[str] = [*_SPLIT_COLOURS, *sorted(set(colours) - set(_SPLIT_COLOURS))]
    named = [name for name in names if (counts[name] or grounds[name]) and name != _SEVERAL]
    handles: list[Any] = [
        Patch(
            facecolor=(*colours[name], 0.45),
            edgecolor=colours[name],
            label=f"{name} ({_scenes(counts[name] or grounds[name])})",
        )
        for name in named[:_MOST_NAMED]
    ]
    if len(named) > _MOST_NAMED:
        handles.append(Patch(facecolor="none", label=f"{len(named) - _MOST_NAMED} more"))
    if "valid_geometry" in catalog.table.column_names:
        handles.append(Patch(facecolor=(0.6, 0.6, 0.6, 0.45), label="valid ground"))
        handles.append(Line2D([], [], color=QUIET, linewidth=0.8, label="footprint"))
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = int(np.clip(_LEGEND_LETTERS // (longest + 7), 1, min(len(handles), 5)))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=7, frameon=False,
        labelcolor=INK, title=" · ".join(notes) or None, title_fontsize=6.5,
    )  # fmt: skip


def _scenes(count: int) -> str:
    return f"{count:,} scene{'s' * (count != 1)}"

"""The landscape of a made scene: fields, woods, a river and a lake, a town with villages, and roads.

Spectra are in `geoaug.data.synthetic.spectra`, shapes in `geoaug.data.synthetic.fields`; here they become
surface reflectance and a class per pixel, layer over layer as coverages (0..1). Air and sensor are in
`geoaug.data.synthetic.made_scene`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from geoaug.data.synthetic.fields import (
    Parcels,
    Raster,
    distance_to_line,
    fractal_noise,
    jittered_cells,
    meander,
    parcels,
    row_texture,
    smooth_step,
    soft_edge,
    winding_line,
)
from geoaug.data.synthetic.spectra import BANDS, SPECTRA

CLASS_NAMES: Final = (
    "water",
    "broadleaf forest",
    "conifer forest",
    "grassland",
    "cereal",
    "rapeseed",
    "maize",
    "bare soil",
    "built-up",
    "road",
)
_CLASS: Final = {name: number for number, name in enumerate(CLASS_NAMES)}
_SUN: Final = (0.80, 0.35)  # direction towards the sun on the raster: down (south) and right (east)


@dataclass(frozen=True, slots=True)
class Landscape:
    """The ground while it grows: surface reflectance (13, H, W), changed in place, and the class of each pixel (index
    into `CLASS_NAMES`)."""

    reflectance: Raster
    classes: NDArray[np.uint8]

    def lay(self, coverage: Raster, spectra: Raster, brightness: Raster | None, class_name: str | None) -> None:
        """Cover the ground by `coverage` with `spectra`, (13,) or (13, H, W), times a brightness near 1."""
        for band, reflectance in enumerate(self.reflectance):
            layer = spectra[band] if brightness is None else spectra[band] * brightness
            reflectance += coverage * (layer - reflectance)
        if class_name is not None:
            self.classes[coverage > 0.5] = _CLASS[class_name]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where things are, in pixels: (x, y) centres, the river's line and the roads' lines with their half
    widths."""

    town: NDArray[np.float64]
    villages: tuple[NDArray[np.float64], ...]
    lake: NDArray[np.float64]
    lake_radius: float
    river: NDArray[np.float64]
    roads: tuple[tuple[NDArray[np.float64], float], ...]


def draw_landscape(rng: np.random.Generator, size: int) -> Landscape:
    """Draw a landscape of `size` x `size` pixels of 10 m."""
    plan = _draw_plan(rng, size)
    elevation = fractal_noise(rng, size, longest=420, shortest=9, exponent=2.1)
    landscape = _farmland(rng, size, elevation)
    valley = distance_to_line(plan.river, size, reach=34)
    _meadows(rng, landscape, valley)
    _woods(rng, landscape, elevation, plan, valley)
    _settlements(rng, landscape, plan)
    _water(rng, landscape, plan, valley)
    for line, half_width in plan.roads:
        _road(landscape, line, half_width)
    _light(landscape, elevation)
    return landscape


def _draw_plan(rng: np.random.Generator, size: int) -> _Plan:
    """Settlements beside the river, a lake well away from the town, roads from the town to all that is
    around it."""
    river = meander(rng, size, wavelength=max(90.0, size / 6.5), wildness=1.55)

    def beside_river(fraction: float, offset: float) -> NDArray[np.float64]:
        point = river[np.argmin(np.abs(river[:, 0] - fraction * size))]
        return np.asarray(point + np.array([0.0, offset * size]), dtype=np.float64)

    town = beside_river(rng.uniform(0.40, 0.52), 0.055)
    lake = np.array([rng.uniform(0.16, 0.26), rng.uniform(0.76, 0.84)]) * size
    lake_radius = 0.085 * size
    villages = (
        np.array([rng.uniform(0.12, 0.24), rng.uniform(0.10, 0.18)]) * size,
        np.array([rng.uniform(0.46, 0.60), rng.uniform(0.82, 0.90)]) * size,
        np.array([rng.uniform(0.74, 0.82), rng.uniform(0.62, 0.72)]) * size,
        np.array([rng.uniform(0.62, 0.72), rng.uniform(0.08, 0.16)]) * size,
    )
    ends = (np.array([-0.02, 0.50]), np.array([1.02, 0.80]), np.array([0.36, 1.02]), np.array([0.40, -0.02]))
    lines = [(winding_line(rng, town, village, 0.035 * size), 0.62) for village in villages]
    lines += [(winding_line(rng, town, end * size, 0.04 * size), 0.75) for end in ends]
    lines.append((winding_line(rng, villages[0], villages[3], 0.03 * size), 0.55))
    lines.append((winding_line(rng, villages[1], villages[2], 0.03 * size), 0.55))
    motorway = np.array([[-0.02, rng.uniform(0.58, 0.66)], [1.02, rng.uniform(0.44, 0.56)]]) * size
    lines.append((winding_line(rng, motorway[0], motorway[1], 0.05 * size), 1.5))
    roads = tuple((_around(line, lake, 1.45 * lake_radius), half_width) for line, half_width in lines)
    return _Plan(town, villages, lake, lake_radius, river, roads)


def _around(line: NDArray[np.float64], centre: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """The line with what lies within `radius` of `centre` pushed outwards: roads go around a lake."""
    offset = line - centre
    distance = np.hypot(offset[:, 0], offset[:, 1])[:, None]
    pushed = np.sqrt(distance**2 + np.maximum(radius**2 - distance**2, 0) * 0.98)
    return np.asarray(centre + offset / np.maximum(distance, 1e-6) * pushed, dtype=np.float64)


def _grid(size: int) -> tuple[Raster, Raster]:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    return x, y


def _farmland(rng: np.random.Generator, size: int, elevation: Raster) -> Landscape:
    """Parcels of several crops and bare soil, with rows, headlands, grass margins and farm tracks."""
    x, y = _grid(size)
    warp_x = x + 3.5 * fractal_noise(rng, size, longest=260, shortest=40)
    warp_y = y + 3.5 * fractal_noise(rng, size, longest=260, shortest=40)
    cells = jittered_cells(rng, warp_x, warp_y, pitch=92)
    field = parcels(rng, warp_x, warp_y, cells, width=(8, 26), length=(24, 70), angle=rng.uniform(0, np.pi), spread=0.3)
    return _crops(rng, field, cells.border, elevation)


def _crops(rng: np.random.Generator, field: Parcels, border: Raster, elevation: Raster) -> Landscape:
    size = border.shape[0]
    crops = ("cereal", "rapeseed", "maize", "bare soil", "grassland")
    crop = rng.choice(len(crops), field.count, p=(0.36, 0.08, 0.21, 0.16, 0.19))
    plants = np.stack([SPECTRA[name] for name in ("cereal", "rapeseed", "maize", "grass", "grass")])[crop]
    # How much of the ground the plants cover: ripe for cereals, still half open in maize, weeds on bare soil.
    cover_range = np.array([[0.72, 1.0], [0.55, 0.95], [0.15, 0.7], [0.0, 0.14], [0.6, 1.0]])[crop]
    cover = rng.uniform(cover_range[:, 0], cover_range[:, 1]).astype(np.float32)
    wet = rng.beta(1.6, 2.2, field.count).astype(np.float32)[:, None]
    chalk = (0.35 * rng.beta(1.2, 4.0, field.count)).astype(np.float32)[:, None]
    soil = (1 - chalk) * ((1 - wet) * SPECTRA["loam"] + wet * SPECTRA["wet loam"]) + chalk * SPECTRA["chalky soil"]
    plants = plants * rng.normal(1.0, 0.07, (field.count, 1)).astype(np.float32)

    patches = fractal_noise(rng, size, longest=60, shortest=2.2, exponent=1.25)
    rows = row_texture(rng, field)
    strength = rng.uniform(0.03, 0.10, field.count).astype(np.float32)[field.index]
    vigour = cover[field.index] + strength * patches + 0.55 * strength * rows
    vigour -= 0.18 * smooth_step(field.end, 2.4, 0.6) * (vigour > 0.3)
    np.clip(vigour, 0.0, 1.0, out=vigour)
    # Crests are eroded and pale, hollows dark and moist.
    pale = 1 + 0.10 * elevation * 0.6 + 0.05 * patches + 0.03 * rows

    reflectance = np.empty((len(BANDS), size, size), dtype=np.float32)
    for band in range(len(BANDS)):
        reflectance[band] = vigour * plants[:, band][field.index] + (1 - vigour) * (soil[:, band][field.index] * pale)
    classes = np.array([_CLASS[name] for name in crops], dtype=np.uint8)[crop][field.index]
    landscape = Landscape(reflectance, classes)
    margin = np.minimum(field.side, field.end)
    landscape.lay(0.55 * smooth_step(margin, 0.9, 0.2), SPECTRA["grass"], None, None)
    track = smooth_step(border, 1.0, 0.35)
    landscape.lay(0.6 * track, 0.6 * SPECTRA["loam"] + 0.4 * SPECTRA["asphalt"], None, None)
    hedge = smooth_step(fractal_noise(rng, size, longest=70, shortest=3), 0.55, 0.9) * smooth_step(margin, 1.5, 0.6)
    landscape.lay(0.8 * hedge, SPECTRA["broadleaf"], None, None)
    return landscape


def _meadows(rng: np.random.Generator, landscape: Landscape, valley: Raster) -> None:
    """Grass on the flood plain, wetter and darker in old channels."""
    size = valley.shape[0]
    width = 15 + 6 * fractal_noise(rng, size, longest=140, shortest=12)
    texture = fractal_noise(rng, size, longest=40, shortest=2)
    meadow = soft_edge(width - valley, 2.0)
    spectra = 0.9 * SPECTRA["grass"] + 0.1 * SPECTRA["wet loam"]
    landscape.lay(0.85 * meadow, spectra, (1 + 0.07 * texture).astype(np.float32), "grassland")


def _woods(rng: np.random.Generator, landscape: Landscape, elevation: Raster, plan: _Plan, valley: Raster) -> None:
    """Forest on the heights with ragged edges, in stands of different age and kind, and trees along the
    river."""
    size = elevation.shape[0]
    x, y = _grid(size)
    stands = jittered_cells(rng, x + 2 * elevation, y, pitch=34)
    ragged = fractal_noise(rng, size, longest=260, shortest=3.0, exponent=1.55)
    straight = rng.normal(0, 0.22, stands.count).astype(np.float32)[stands.index]
    suited = 0.75 * elevation + 0.55 * ragged + straight
    for centre in (plan.town, *plan.villages):
        suited -= 2.4 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (0.075 * size) ** 2)
    suited -= 1.2 * smooth_step(valley, 30, 4)
    edge = np.float32(np.quantile(suited, 0.74))
    forest = soft_edge(suited - edge, 1.4)
    trees = smooth_step(fractal_noise(rng, size, longest=50, shortest=2), 0.2, 0.7) * smooth_step(valley, 8, 5)
    copses = soft_edge(fractal_noise(rng, size, longest=60, shortest=3, exponent=1.8) - 2.7, 1.4)
    forest = np.maximum(forest, np.maximum(0.9 * trees, copses))

    age = rng.normal(0, 0.10, stands.count).astype(np.float32)[stands.index]
    crowns = fractal_noise(rng, size, longest=9, shortest=1.6, exponent=0.5)
    height = fractal_noise(rng, size, longest=60, shortest=2.5, exponent=1.5)
    down, right = np.gradient(height)
    shade = -(down * _SUN[0] + right * _SUN[1])
    brightness = np.clip(1 + age + 0.085 * crowns + 0.11 * shade / shade.std() + 0.04 * height, 0.35, 1.7)
    kind = 0.9 * fractal_noise(rng, size, longest=200, shortest=12) + rng.normal(0, 0.8, stands.count)[stands.index]
    conifer = soft_edge((kind + 0.25 * height - 0.1).astype(np.float32), 2.5)
    shadow = np.clip(np.roll(forest, (-2, -1), (0, 1)) - forest, 0, 1)
    np.multiply(landscape.reflectance, 1 - 0.45 * shadow, out=landscape.reflectance)
    landscape.lay(forest * (1 - conifer), SPECTRA["broadleaf"], brightness.astype(np.float32), None)
    mixed = 0.88 * SPECTRA["conifer"] + 0.12 * SPECTRA["broadleaf"]
    landscape.lay(forest * conifer, mixed, brightness.astype(np.float32), None)
    landscape.classes[forest > 0.5] = _CLASS["broadleaf forest"]
    landscape.classes[(forest > 0.5) & (conifer > 0.5)] = _CLASS["conifer forest"]
    ride = smooth_step(stands.border, 1.0, 0.3) * forest
    landscape.lay(0.16 * ride, SPECTRA["grass"], None, None)


def _settlements(rng: np.random.Generator, landscape: Landscape, plan: _Plan) -> None:
    """A town with streets, roofs, gardens and an industrial quarter, and villages that are mostly gardens."""
    size = landscape.classes.shape[0]
    x, y = _grid(size)
    density = np.full((size, size), -1.6, dtype=np.float32)
    for centre, radius in ((plan.town, 0.072), *((village, 0.024) for village in plan.villages)):
        density = np.maximum(density, 1.0 - np.hypot(x - centre[0], y - centre[1]) / np.float32(radius * size))
    works_at = plan.town + np.array([0.075, 0.035]) * size
    works = 1.0 - np.hypot(x - works_at[0], (y - works_at[1]) * 1.5) / np.float32(0.038 * size)
    ragged = fractal_noise(rng, size, longest=60, shortest=4)
    quarters = jittered_cells(rng, x, y, pitch=30)
    blocks = parcels(rng, x, y, quarters, width=(7, 11), length=(10, 18), angle=rng.uniform(0, np.pi), spread=0.5)
    # Whole blocks are built up or not, so that the edge of the town follows its streets.
    weight = np.maximum(np.bincount(blocks.index.reshape(-1), minlength=blocks.count), 1)
    spread = (np.bincount(blocks.index.reshape(-1), (density + 0.30 * ragged).reshape(-1)) / weight)[blocks.index]
    works_block = (np.bincount(blocks.index.reshape(-1), works.reshape(-1)) / weight)[blocks.index] > 0
    built = np.maximum(spread > 0.0, works_block).astype(np.float32)

    houses = parcels(rng, x, y, quarters, width=(1.8, 2.6), length=(2.2, 4.2), angle=0.0, spread=0.5)
    halls = parcels(rng, x, y, quarters, width=(4, 8), length=(7, 14), angle=0.0, spread=0.5)
    centre = np.clip(spread, 0, 1).astype(np.float32)
    draw = rng.random(houses.count).astype(np.float32)[houses.index]
    tone = rng.lognormal(-0.05, 0.16, houses.count).astype(np.float32)[houses.index]
    garden = draw > 0.38 + 0.55 * centre
    red = ~garden & (draw < 0.24 + 0.22 * centre)
    pale = ~garden & ~red & (draw < 0.30 + 0.26 * centre)
    lawn = 0.62 * SPECTRA["grass"] + 0.23 * SPECTRA["broadleaf"] + 0.15 * SPECTRA["asphalt"]
    landscape.lay(built, lawn, (1 + 0.12 * ragged).astype(np.float32), "built-up")
    landscape.lay(0.72 * built * red, SPECTRA["red roof"], tone, None)
    landscape.lay(0.8 * built * pale, 0.3 * SPECTRA["bright roof"] + 0.7 * SPECTRA["grey roof"], tone, None)
    landscape.lay(0.75 * built * (~garden & ~red & ~pale), SPECTRA["grey roof"], tone, None)
    hall = rng.random(halls.count).astype(np.float32)[halls.index]
    yard = (works_block * 0.9).astype(np.float32)
    landscape.lay(yard, SPECTRA["asphalt"], (1.1 + 0.06 * ragged).astype(np.float32), None)
    inside = smooth_step(np.minimum(halls.side, halls.end), 0.5, 1.1)
    landscape.lay(yard * inside * (hall < 0.34), SPECTRA["grey roof"], (0.6 + 1.4 * hall).astype(np.float32), None)
    landscape.lay(yard * inside * (hall > 0.86), SPECTRA["bright roof"], (7 * hall - 6).astype(np.float32) + 0.3, None)
    landscape.lay(0.8 * yard * ((hall > 0.34) & (hall < 0.48)), SPECTRA["grass"], None, None)
    street = smooth_step(np.minimum(blocks.side, blocks.end), 1.0, 0.4) * built
    landscape.lay(0.75 * street, SPECTRA["asphalt"], None, None)
    park = smooth_step(fractal_noise(rng, size, longest=40, shortest=3), 1.1, 1.4) * built * ~works_block
    landscape.lay(
        park, 0.7 * SPECTRA["broadleaf"] + 0.3 * SPECTRA["grass"], (1 + 0.1 * ragged).astype(np.float32), None
    )


def _water(rng: np.random.Generator, landscape: Landscape, plan: _Plan, valley: Raster) -> None:
    """The river, turbid; and a lake that is deep in the middle and pale at its shore."""
    size = valley.shape[0]
    x, y = _grid(size)
    width = 2.9 + 0.5 * fractal_noise(rng, size, longest=120, shortest=10)
    river = np.clip(width - valley + 0.5, 0, 1).astype(np.float32)
    shape = fractal_noise(rng, size, longest=max(size / 5, 40), shortest=5, exponent=1.9)
    radius = np.hypot((x - plan.lake[0]) * 0.8, y - plan.lake[1]) / np.float32(plan.lake_radius)
    depth = 1.0 - radius + 0.26 * shape
    lake = soft_edge(depth.astype(np.float32), 1.4)
    reed = soft_edge((depth + 0.07).astype(np.float32), 2.0)
    landscape.lay(0.7 * reed, 0.6 * SPECTRA["grass"] + 0.4 * SPECTRA["wet loam"], None, "grassland")
    sediment = fractal_noise(rng, size, longest=120, shortest=6)
    share = np.clip(smooth_step(depth.astype(np.float32), 0.30, 0.0) * 0.7 + 0.02 * sediment, 0, 1)
    ripple = 1 + 0.02 * fractal_noise(rng, size, longest=60, shortest=1.5, exponent=0.6)
    water = SPECTRA["deep water"][:, None, None] * (1 - share) + SPECTRA["turbid water"][:, None, None] * share
    landscape.lay(lake, water, ripple.astype(np.float32), "water")
    turbid = 0.75 * SPECTRA["turbid water"] + 0.25 * SPECTRA["deep water"]
    landscape.lay(river, turbid, (1 + 0.03 * sediment).astype(np.float32), "water")


def _road(landscape: Landscape, line: NDArray[np.float64], half_width: float) -> None:
    """An asphalt road, with a grassy verge where it is broad."""
    distance = distance_to_line(line, landscape.classes.shape[0], reach=6)
    if half_width > 1:
        landscape.lay(0.6 * np.clip(half_width + 1.5 - distance, 0, 1), SPECTRA["grass"], None, None)
    coverage = np.clip(half_width + 0.5 - distance, 0, 1).astype(np.float32)
    landscape.lay(0.92 * coverage, 1.08 * SPECTRA["asphalt"], None, "road")


def _light(landscape: Landscape, elevation: Raster) -> None:
    """Slopes towards the sun are a few percent brighter than those away from it; water is level."""
    down, right = np.gradient(elevation)
    towards = down * _SUN[0] + right * _SUN[1]
    towards = np.clip(towards / towards.std(), -2.5, 2.5)
    towards[landscape.classes == _CLASS["water"]] = 0
    np.multiply(landscape.reflectance, (1 - 0.030 * towards).astype(np.float32), out=landscape.reflectance)

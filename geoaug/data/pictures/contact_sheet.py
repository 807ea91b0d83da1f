"""Pictures in files: the contact sheet, which shows originals beside their augmented copies.

Arrays in, a PNG out. How an array becomes red, green and blue is in `geoaug.data.pictures.composites`, whose names
are offered here too, and the drawing itself in `geoaug.data.pictures.page`; reading and augmenting are done
elsewhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoaug.data.pictures.composites import (
    Colour,
    Composite,
    Mask,
    Rgb,
    Stretch,
    Valid,
    class_colours,
    composite,
    hatching,
    measure_stretch,
    overlay_mask,
    select_bands,
    stretch,
)
from geoaug.data.pictures.page import QUIET, Page, Ruler, text_height
from geoaug.errors import ConfigurationError

__all__ = [
    "Colour",
    "Composite",
    "SheetImage",
    "SheetTile",
    "Stretch",
    "class_colours",
    "composite",
    "contact_sheet",
    "describe_parameters",
    "hatching",
    "measure_stretch",
    "overlay_mask",
    "stretch",
]

# Inches on the page, and points.
_CELL, _GAP, _BLOCK_GAP, _PAGE_MARGIN, _ROW_LABEL = 2.0, 0.05, 0.16, 0.14, 0.2
_TITLE_POINTS, _HEADING_POINTS, _TEXT_POINTS = 11.0, 8.0, 6.5

# Percentiles of the originals that span the stretch, and by how much of its range it is wider at either end.
_LOW, _HIGH, _WIDER = 1.0, 99.0, 0.15


@dataclass(frozen=True)
class SheetImage:
    """One picture of a contact sheet: `image` (C, H, W), `valid` (H, W) or None, `mask` (H, W) class ids or
    None, and what was drawn for it, as `Plan.parameters()` gives it for one sample (empty for an
    original)."""

    image: NDArray[Any]
    valid: Valid | None = None
    mask: Mask | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True)
class SheetTile:
    """A tile of a contact sheet: the original, its augmented copies, and a heading (scene and window)."""

    original: SheetImage
    copies: tuple[SheetImage, ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class _Key:
    """What the colours of a sheet mean: names by class number, and the number that means "no label"."""

    names: Mapping[int, str]
    colours: Mapping[int, Colour]
    ignore_index: int | None


def contact_sheet(
    tiles: Sequence[SheetTile],
    path: str | Path,
    *,
    composites: Sequence[Composite],
    class_names: Mapping[int, str] | None = None,
    colours: Mapping[int, Colour] | None = None,
    ignore_index: int | None = 255,
    title: str = "",
) -> None:
    """Draw tiles below one another, each original beside its augmented copies, into a PNG at `path`.

    Each of `composites` is a row of a tile; a further row shows the masks, where there are any, over the first
    composite in grey. All tiles and copies share one stretch, that of the originals made wider, so that a change of
    brightness is seen as one. Pixels
    without data are hatched, and what was drawn for a copy stands below it. A class without a name in `class_names`
    goes by its number, one without a colour in `colours` gets one of `class_colours`. The file appears whole or not
    at all; a file that is there is replaced.

    Raises:
        ConfigurationError: no tiles, no composites, a band that an image does not have, a sheet that is too large, or a
            place that cannot be written to.
    """
    if not tiles or not composites:
        raise ConfigurationError("a contact sheet needs at least one tile and one composite")
    key = _make_key(tiles, class_names or {}, colours or {}, ignore_index)
    originals = [tile.original for tile in tiles]
    stretches = [_shared_stretch(originals, shown.bands) for shown in composites]
    ruler = Ruler()
    columns = 1 + max(len(tile.copies) for tile in tiles)
    left = _PAGE_MARGIN + _ROW_LABEL
    room = columns * _CELL + (columns - 1) * _GAP
    width = left + room + _PAGE_MARGIN
    blocks = [_Block.lay_out(tile, composites, ruler, room) for tile in tiles]
    title_lines = ruler.wrap(title, _TITLE_POINTS, width - 2 * _PAGE_MARGIN, bold=True)
    legend = list(_legend(key, tiles, ruler, left, left + room))
    legend_height = (legend[-1].top + text_height(_TEXT_POINTS)) if legend else 0.0
    title_height = text_height(_TITLE_POINTS, len(title_lines)) + (0.08 if title_lines else 0.0)
    height = 2 * _PAGE_MARGIN + title_height + sum(block.height for block in blocks) + legend_height
    height += _BLOCK_GAP * (len(blocks) - 1 + bool(legend))

    page = Page(width, height)
    page.text("\n".join(title_lines), left, _PAGE_MARGIN, _TITLE_POINTS, bold=True)
    top = _PAGE_MARGIN + title_height
    for block in blocks:
        block.draw(page, left, top, key, stretches)
        top += block.height + _BLOCK_GAP
    for entry in legend:
        side = _TEXT_POINTS / 72
        page.swatch(entry.left, top + entry.top + 0.012, side, entry.colour, entry.hatch)
        page.text(entry.words, entry.left + side + 0.05, top + entry.top, _TEXT_POINTS)
    try:
        page.save(Path(path))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror or error})") from error


def _images(tile: SheetTile) -> tuple[SheetImage, ...]:
    return (tile.original, *tile.copies)


@dataclass(frozen=True)
class _Block:
    """A tile on the page: its rows of pictures, and the wrapped texts around them."""

    tile: SheetTile
    composites: tuple[Composite, ...]
    heading: list[str]
    titles: list[str]
    captions: list[list[str]]
    cell_height: float

    @classmethod
    def lay_out(cls, tile: SheetTile, composites: Sequence[Composite], ruler: Ruler, room: float) -> "_Block":
        titles = [tile.original.title or "original"]
        titles += [copy.title or f"copy {number}" for number, copy in enumerate(tile.copies, start=1)]
        captions = [
            [
                line
                for described in describe_parameters(image.parameters)
                for line in ruler.wrap(described, _TEXT_POINTS, _CELL)
            ]
            for image in _images(tile)
        ]
        height, width = tile.original.image.shape[-2:]
        heading = ruler.wrap(tile.title, _HEADING_POINTS, room, bold=True)
        return cls(tile, tuple(composites), heading, titles, captions, _CELL * min(max(height / width, 0.2), 5.0))

    @property
    def rows(self) -> int:
        return len(self.composites) + any(image.mask is not None for image in _images(self.tile))

    @property
    def height(self) -> float:
        captions = max(len(lines) for lines in self.captions)
        above = text_height(_HEADING_POINTS, len(self.heading)) + text_height(_TEXT_POINTS) + 0.03
        pictures = self.rows * self.cell_height + (self.rows - 1) * _GAP
        return above + pictures + (0.04 + text_height(_TEXT_POINTS, captions) if captions else 0.0)

    def draw(self, page: Page, left: float, top: float, key: _Key, stretches: Sequence[Stretch]) -> None:
        page.text("\n".join(self.heading), left, top, _HEADING_POINTS, bold=True)
        top += text_height(_HEADING_POINTS, len(self.heading))
        pictures: list[list[Rgb | None]] = []
        for shown, reference in zip(self.composites, stretches, strict=True):
            pictures.append([composite(i.image, shown.bands, i.valid, reference=reference) for i in _images(self.tile)])
        labels = [shown.title for shown in self.composites]
        if self.rows > len(self.composites):
            labels.append("classes")
            pictures.append(
                [
                    None if image.mask is None or rgb is None else _classes(rgb, image.mask, image.valid, key)
                    for rgb, image in zip(pictures[0], _images(self.tile), strict=True)
                ]
            )
        for column, words in enumerate(self.titles):
            page.text(words, left + column * (_CELL + _GAP), top, _TEXT_POINTS, colour=QUIET)
        top += text_height(_TEXT_POINTS) + 0.03
        for label, row in zip(labels, pictures, strict=True):
            page.row_label(label, left - 0.05, top + self.cell_height / 2, _TEXT_POINTS)
            for column, rgb in enumerate(row):
                if rgb is not None:
                    page.picture(rgb, left + column * (_CELL + _GAP), top, _CELL, self.cell_height)
            top += self.cell_height + _GAP
        for column, lines in enumerate(self.captions):
            page.text("\n".join(lines), left + column * (_CELL + _GAP), top - _GAP + 0.04, _TEXT_POINTS)


def _shared_stretch(images: Sequence[SheetImage], bands: tuple[int, ...]) -> Stretch:
    """One stretch for a whole sheet, measured on its originals.

    A copy with a dropped band or haze would shift the colours of all others; hence only the originals count, and
    each channel is widened by the same share of its range, so that darker and brighter copies still show.
    """
    channels = [select_bands(image.image, bands).reshape(len(bands), -1) for image in images]
    valid = [np.ones(image.image.shape[-2:], dtype=bool) if image.valid is None else image.valid for image in images]
    measured = measure_stretch(
        np.concatenate(channels, axis=1)[:, None],
        np.concatenate([v.reshape(-1) for v in valid])[None],
        low=_LOW,
        high=_HIGH,
    )
    low, high = np.array(measured.low), np.array(measured.high)
    room = _WIDER * (high - low)
    return Stretch(tuple((low - room).tolist()), tuple((high + room).tolist()))


def _make_key(
    tiles: Sequence[SheetTile],
    names: Mapping[int, str],
    colours: Mapping[int, Colour],
    ignore_index: int | None,
) -> _Key:
    masks = [image.mask for tile in tiles for image in _images(tile) if image.mask is not None]
    found = {int(number) for mask in masks for number in np.unique(mask)} - {ignore_index}
    # The colour of a class is that of its place among all that are known, not among those which happen to be seen.
    known = sorted(found | set(names))
    spare = dict(zip(known, class_colours(len(known)), strict=True))
    shown = sorted(found)
    return _Key(
        {number: names.get(number, f"class {number}") for number in shown},
        {number: colours.get(number, spare[number]) for number in shown},
        ignore_index,
    )


def _classes(rgb: Rgb, mask: Mask, valid: Valid | None, key: _Key) -> Rgb:
    """The classes over a pale grey picture, so that only the classes have a colour."""
    grey = 0.35 + 0.6 * rgb.mean(axis=2, keepdims=True).repeat(3, axis=2)
    tinted = overlay_mask(grey.astype(np.float32), mask, key.colours, key.ignore_index, alpha=0.62)
    if valid is None:
        return tinted
    return np.where(valid[..., None], tinted, hatching(valid.shape)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _LegendEntry:
    words: str
    colour: Colour | str
    hatch: str | None
    left: float
    top: float


def _legend(key: _Key, tiles: Sequence[SheetTile], ruler: Ruler, left: float, right: float) -> Iterator[_LegendEntry]:
    """The classes, what has no label, and what has no data, in lines between `left` and `right`."""
    entries: list[tuple[str, Colour | str, str | None]] = [
        (name, key.colours[number], None) for number, name in key.names.items()
    ]
    images = [image for tile in tiles for image in _images(tile)]
    if any(_has_unlabelled(image, key.ignore_index) for image in images):
        entries.append(("no label", "#b8b8b8", None))
    if any(image.valid is not None and not image.valid.all() for image in images):
        entries.append(("no data", "#bdbdbd", "////////"))
    side = _TEXT_POINTS / 72
    x, y = left, 0.0
    for words, colour, hatch in entries:
        width = side + 0.05 + ruler.width(words, _TEXT_POINTS)
        if x > left and x + width > right:
            x, y = left, y + text_height(_TEXT_POINTS) + 0.03
        yield _LegendEntry(words, colour, hatch, x, y)
        x += width + 0.16


def _has_unlabelled(image: SheetImage, ignore_index: int | None) -> bool:
    if image.mask is None or ignore_index is None:
        return False
    unlabelled = image.mask == ignore_index
    # A seam of single pixels along the nodata needs no entry of its own.
    return bool((unlabelled if image.valid is None else unlabelled & image.valid).mean() > 0.005)


def describe_parameters(parameters: Mapping[str, Any]) -> list[str]:
    """One short line for each operation: {"RandomRotation": {"degrees": 12.34}} gives ["Rotation degrees 12.3"].

    Values per band are given as their range, matrices and seeds not at all.
    """
    lines = []
    for operation, drawn in parameters.items():
        name = operation.rpartition(".")[2].removeprefix("Random")
        values = drawn if isinstance(drawn, Mapping) else {"": drawn}
        words = [
            f"{key.replace('_', ' ')} {shown}".strip()
            for key, value in values.items()
            if key != "seed" and (shown := _short(value))
        ]
        lines.append(f"{name} {', '.join(words)}".strip())
    return lines


def _short(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    numbers = np.asarray(value)
    if numbers.ndim > 1 or numbers.size == 0 or numbers.dtype.kind not in "iufb":
        return ""
    if numbers.size > 3 and np.isin(numbers, (0, 1)).all():
        return f"{int(numbers.sum())} of {numbers.size}"
    shown = [_number(number) for number in numbers.reshape(-1).tolist()]
    if len(set(shown)) == 1:
        return shown[0]
    if len(shown) <= 3:
        return " / ".join(shown)
    return f"{_number(numbers.min())}…{_number(numbers.max())}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"

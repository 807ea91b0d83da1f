"""A batch of tiles as a picture: images beside their labels and predictions, with what is not valid and a legend.

Works on the batch dicts of loaders and of `Compose` alike. How an array becomes colours is in
`geoaug.data.pictures.composites`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.pictures.composites import (
    Colour,
    Mask,
    Rgb,
    Stretch,
    class_colours,
    hatching,
    measure_stretch,
    overlay_mask,
)
from geoaug.data.pictures.page import INK, QUIET, Page, Ruler, text_height
from geoaug.errors import ConfigurationError
from geoaug.sensors import Sensor, false_colour_bands, rgb_bands

if TYPE_CHECKING:
    from geoaug.data.loading.dataset import TileDataset

# Inches on the page, and points.
_CELL, _GAP, _GROUP_GAP, _MARGIN, _WIDEST = 1.6, 0.04, 0.16, 0.16, 11.0
_TITLE_POINTS, _TEXT_POINTS = 11.0, 6.5
_WRONG = "#b3261e"

# Percentile of the tiles' own lower ends that is black, and by how much of its range the stretch is wider.
_MOST_LOW, _WIDER = 25.0, 0.1

_LARGEST_CHIP, _USUAL_TILE = 512, 256
_TILES_TRIED = 8  # batches, until one has a tile
# Bytes that a picture may take, and those of a pixel of its tiles besides what is read: measured.
_MOST_BYTES, _DRAWN_BYTES = 2**32, 32


class _Caption(NamedTuple):
    """What stands above a tile; `name` is the part of it that may be shortened."""

    words: str
    colour: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Key:
    """What colours mean."""

    names: Mapping[int, str]
    colours: Mapping[int, Colour]
    ignore_index: int


def draw_batch(
    batch: Mapping[str, Any],
    sensor: Sensor,
    *,
    predictions: Tensor | None = None,
    classes: Sequence[str] = (),
    ignore_index: int = 255,
    count: int = 12,
    title: str = "",
) -> Figure:
    """A picture of a batch, each tile beside its mask and prediction, all under one stretch.

    Args:
        batch: with `image` (B, C, H, W), and as far as they are there `valid`, `mask`, `label`, `scene`, `window`.
        sensor: of the bands, for true colour.
        predictions: class ids (B, H, W) or (B,), scores by class (B, K, H, W) or (B, K), or numbers (B,).
        classes: names by id.
        ignore_index: where there is no label.
        count: tiles to show at most.
        title: above them.

    Raises:
        ConfigurationError: a batch without tiles, or predictions of another shape.
    """
    image = _array(batch["image"])[:count]
    if image.ndim != 4 or not len(image):
        raise ConfigurationError(f"a batch to draw has an image (B, C, H, W), not {tuple(batch['image'].shape)}")
    valid = np.ones((len(image), *image.shape[-2:]), dtype=bool)
    if "valid" in batch:
        valid = _array(batch["valid"])[:count, 0]
    mask = _array(batch["mask"])[:count].reshape(valid.shape) if "mask" in batch else None
    maps, values = _predicted(predictions, len(batch["image"]), valid.shape[-2:])
    maps, values = None if maps is None else maps[:count], None if values is None else values[:count]
    label = _array(batch["label"])[:count] if "label" in batch else None
    pictures = _coloured(image, valid, _shown_bands(sensor, image.shape[1]))
    key = _key([part for part in (mask, maps) if part is not None], classes, ignore_index)
    rows = [[rgb] for rgb in pictures]
    for part in (mask, maps):
        if part is not None:
            for row, rgb, ids, known in zip(rows, pictures, part, valid, strict=True):
                row.append(_classes(rgb, ids, known, key))
    heads = ["image", *(["labels"] if mask is not None else []), *(["prediction"] if maps is not None else [])]
    captions = [_caption(batch, number, label, values, classes) for number in range(len(image))]
    return _laid_out(rows, heads, captions, _legend(key, mask, valid), title)


def draw_training_batch(
    catalog: Catalog,
    *,
    recipe: str | Path | None = None,
    split: str | None = None,
    size: int | None = None,
    count: int = 12,
    seed: int = 0,
    ignore_index: int = 255,
    **options: Any,
) -> Figure:
    """A picture of tiles drawn at random as training sees them.

    Args:
        catalog: of the scenes.
        recipe: to augment by; None for tiles as they are read.
        split: of the catalog; None for all of it.
        size: of a tile; by default whole chips, or 256.
        count: tiles.
        seed: of the tiles and the augmentation.
        ignore_index: where there is no label.
        **options: further arguments of `TileDataset`.

    Raises:
        ConfigurationError: no tile can be drawn, or tiles so large or many would not fit into 4 GB; the message says
            what would do.
    """
    from geoaug.augment.recipe import load_recipe
    from geoaug.data.loading.dataset import TileDataset
    from geoaug.data.loading.loader import NothingLeftError, TileLoader
    from geoaug.data.sampling.random_sampler import RandomTileSampler

    part = catalog if split is None else catalog.split(split)
    if count < 1:
        raise ConfigurationError(f"a picture of {count} tiles: it must have one at least")
    with TileDataset(
        part, _usual_size(part) if size is None else size, ignore_index=ignore_index, **options
    ) as dataset:
        _check_size(dataset, count, augmented=recipe is not None)
        sampler = RandomTileSampler(dataset, count * _TILES_TRIED, seed=seed, min_valid=dataset.min_valid)
        try:
            batch = next(iter(TileLoader(dataset, sampler, count, look_ahead=1)))
        except NothingLeftError as error:
            raise ConfigurationError(f"{error}: lower min_valid (--min-valid), or take smaller tiles") from error
    title = f"{len(part):,} scene{'s' * (len(part) != 1)} · {dataset.sensor.name}" + (
        "" if split is None else f" · split {split}"
    )
    if recipe is not None:
        compose = load_recipe(recipe).compose(sensor=dataset.sensor, ignore_index=ignore_index, normalize=None)
        batch = compose.train()(batch)
        title += f" · recipe {Path(recipe).stem} · seed {seed}"
    return draw_batch(
        batch, dataset.sensor, classes=dataset.classes, ignore_index=ignore_index, count=count, title=title
    )


def _check_size(dataset: "TileDataset", count: int, *, augmented: bool) -> None:
    """Refuse tiles that no scene fills as far as they must be valid, and more than memory would hold."""
    height, width = dataset.size
    grids = dataset.grids
    filled = np.minimum(grids.height, height) * np.minimum(grids.width, width) / (height * width)
    largest = int(filled.argmax())
    if filled[largest] < dataset.min_valid:
        rows, cols = int(grids.height[largest]), int(grids.width[largest])
        raise ConfigurationError(
            f"a tile of {height} x {width} pixels is larger than all scenes: that of {rows} x {cols} fills only "
            f"{filled[largest]:.2g} of it, and {dataset.min_valid:g} must be valid: take tiles of {min(rows, cols)} "
            "pixels or less (--tile), or lower min_valid (--min-valid)"
        )
    pixel = 2 * dataset.tile_bytes / (height * width) + _DRAWN_BYTES
    if augmented:
        pixel += 4 * (len(dataset.band_names) + 1)
    fitting = _MOST_BYTES / (count * pixel)
    if height * width > fitting:
        needed = count * height * width * pixel / 2**30
        raise ConfigurationError(
            f"{count} tiles of {height} x {width} pixels take {needed:,.0f} GB to draw: take tiles of "
            f"{max(int(fitting**0.5), 1)} pixels or less (--tile), or fewer (--count)"
        )


def _usual_size(catalog: Catalog) -> int | None:
    height, width = catalog.column("height"), catalog.column("width")
    alike = (height == height[0]).all() and (width == width[0]).all()
    if alike and max(height[0], width[0]) <= _LARGEST_CHIP:
        return None
    return int(min(_USUAL_TILE, height.min(), width.min()))


def _array(value: Any) -> npt.NDArray[Any]:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return np.asarray((value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy())
    return np.asarray(value)


def _predicted(
    predictions: Tensor | None, count: int, size: tuple[int, ...]
) -> tuple[npt.NDArray[Any] | None, npt.NDArray[Any] | None]:
    """Predictions as maps (B, H, W) of classes, or as one value for each tile."""
    if predictions is None:
        return None, None
    found = _array(predictions)
    if found.ndim == 4 or found.ndim == 2:
        found = found.argmax(axis=1) if found.shape[1] > 1 else found[:, 0]
    if len(found) == count and found.shape[1:] == size:
        return found, None
    if found.shape == (count,):
        return None, found
    raise ConfigurationError(
        f"predictions of shape {tuple(predictions.shape)} for {count} tiles of {size[0]} x {size[1]} pixels: give "
        "class ids (B, H, W) or (B,), or scores (B, K, ...)"
    )


def _shown_bands(sensor: Sensor, count: int) -> tuple[int, ...]:
    if len(sensor) == count:
        found = rgb_bands(sensor) or false_colour_bands(sensor)
        if found is not None:
            return found
    return (0, 1, 2) if count >= 3 else (0,)


def _coloured(image: npt.NDArray[Any], valid: npt.NDArray[np.bool_], bands: tuple[int, ...]) -> list[Rgb]:
    """All tiles in true colour (or what there is) under one stretch."""
    channels = image[:, list(bands)].astype(np.float32)
    measured = [measure_stretch(tile, known) for tile, known in zip(channels, valid, strict=True) if known.any()]
    if not measured:
        return [hatching(valid.shape[1:])] * len(image)
    # Of most tiles: one with a dropped band or a cloud must not shift the colours of all others.
    low = np.percentile([each.low for each in measured], _MOST_LOW, axis=0)
    high = np.percentile([each.high for each in measured], 100 - _MOST_LOW, axis=0)
    room = _WIDER * (high - low)
    stretch = Stretch(tuple((low - room).tolist()), tuple((high + room).tolist()))
    return [stretch.apply(tile, known) for tile, known in zip(channels, valid, strict=True)]


def _key(masks: Sequence[Mask], names: Sequence[str], ignore_index: int) -> _Key:
    found = {int(number) for mask in masks for number in np.unique(mask)} - {ignore_index}
    # The colour of a class is that of its number among all that are known, not among those which happen to be seen.
    known = sorted(found | set(range(len(names))))
    colours = dict(zip(known, class_colours(len(known)), strict=True))
    shown = {number: names[number] if 0 <= number < len(names) else f"class {number}" for number in sorted(found)}
    return _Key(shown, {number: colours[number] for number in shown}, ignore_index)


def _classes(rgb: Rgb, mask: Mask, valid: npt.NDArray[np.bool_], key: _Key) -> Rgb:
    """The classes over a pale grey picture, so that only the classes have a colour."""
    grey = 0.35 + 0.6 * rgb.mean(axis=2, keepdims=True).repeat(3, axis=2)
    tinted = overlay_mask(grey.astype(np.float32), mask, key.colours, key.ignore_index, alpha=0.62)
    return np.where(valid[..., None], tinted, hatching(valid.shape)).astype(np.float32)


def _caption(
    batch: Mapping[str, Any],
    number: int,
    label: npt.NDArray[Any] | None,
    values: npt.NDArray[Any] | None,
    classes: Sequence[str],
) -> _Caption:
    """The label and the prediction of a tile, or else where it lies."""
    if label is not None and label.ndim == 1:
        truth = _named(label[number], classes)
        if values is None:
            return _Caption(truth, INK)
        predicted = _named(values[number], classes)
        if label.dtype.kind in "iu":
            right = int(label[number]) == int(values[number])
            return _Caption(truth, INK) if right else _Caption(f"{truth}, predicted {predicted}", _WRONG)
        return _Caption(f"{truth}, predicted {predicted}", INK)
    predicted = "" if values is None else f"predicted {_named(values[number], classes)} · "
    scene = batch.get("scene")
    where = name = "" if scene is None else str(scene[number])
    if "window" in batch and scene is not None:
        row, col = (int(value) for value in _array(batch["window"])[number][:2])
        where += f" · {row}, {col}"
    return _Caption(predicted + where, QUIET, name)


def _named(value: Any, classes: Sequence[str]) -> str:
    if isinstance(value, np.floating | float):
        return f"{value:.3g}"
    return classes[int(value)] if 0 <= int(value) < len(classes) else str(int(value))


def _legend(key: _Key, mask: Mask | None, valid: npt.NDArray[np.bool_]) -> list[tuple[str, Colour | str, str | None]]:
    entries: list[tuple[str, Colour | str, str | None]] = [
        (name, key.colours[number], None) for number, name in key.names.items()
    ]
    if mask is not None and ((mask == key.ignore_index) & valid).any():
        entries.append(("no label", "#b8b8b8", None))
    if not valid.all():
        entries.append(("no data", "#bdbdbd", "////////"))
    return entries


def _laid_out(
    rows: list[list[Rgb]],
    heads: list[str],
    captions: list[_Caption],
    legend: list[tuple[str, Colour | str, str | None]],
    title: str,
) -> Figure:
    ruler = Ruler()
    height, width = rows[0][0].shape[:2]
    down = _CELL * min(max(height / width, 0.2), 5.0)
    group = len(heads) * _CELL + (len(heads) - 1) * _GAP
    across = min(len(rows), max(1, int((_WIDEST + _GROUP_GAP) // (group + _GROUP_GAP))))
    room = across * group + (across - 1) * _GROUP_GAP
    lines = ruler.wrap(title, _TITLE_POINTS, room, bold=True)
    line = text_height(_TEXT_POINTS)
    top = _MARGIN + text_height(_TITLE_POINTS, len(lines)) + (0.08 if lines else 0.0)
    several = len(heads) > 1
    step = down + line + 0.03 + _GROUP_GAP / 2
    below = -(-len(rows) // across) * step + (line + 0.02 if several else 0.0)
    laid = _in_lines(legend, ruler, room)
    tall = (laid[-1][4] + line + 0.1) if laid else 0.0
    page = Page(room + 2 * _MARGIN, top + below + tall + _MARGIN)
    page.text("\n".join(lines), _MARGIN, _MARGIN, _TITLE_POINTS, bold=True)
    if several:
        for column in range(across):
            for number, head in enumerate(heads):
                left = _MARGIN + column * (group + _GROUP_GAP) + number * (_CELL + _GAP)
                page.text(head, left, top, _TEXT_POINTS, bold=True)
        top += line + 0.02
    for number, (pictures, caption) in enumerate(zip(rows, captions, strict=True)):
        left = _MARGIN + (number % across) * (group + _GROUP_GAP)
        upper = top + (number // across) * step
        words = ruler.fit(caption.words, _TEXT_POINTS, group, name=caption.name)
        page.text(words, left, upper, _TEXT_POINTS, colour=caption.colour)
        for column, rgb in enumerate(pictures):
            page.picture(rgb, left + column * (_CELL + _GAP), upper + line + 0.02, _CELL, down)
    top += -(-len(rows) // across) * step + 0.04
    side = _TEXT_POINTS / 72
    for words, shade, hatch, left, lower in laid:
        page.swatch(_MARGIN + left, top + lower + 0.012, side, shade, hatch)
        page.text(words, _MARGIN + left + side + 0.05, top + lower, _TEXT_POINTS)
    return page.figure


def _in_lines(
    entries: list[tuple[str, Colour | str, str | None]], ruler: Ruler, room: float
) -> list[tuple[str, Colour | str, str | None, float, float]]:
    """The entries of a legend in lines of a width."""
    laid, x, y = [], 0.0, 0.0
    for words, colour, hatch in entries:
        width = _TEXT_POINTS / 72 + 0.05 + ruler.width(words, _TEXT_POINTS)
        if x > 0 and x + width > room:
            x, y = 0.0, y + text_height(_TEXT_POINTS) + 0.03
        laid.append((words, colour, hatch, x, y))
        x += width + 0.16
    return laid

"""Plots and pictures of a report, as PNG bytes: arrays and results in, nothing read or written."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from geoaug.audit.examples import Example
from geoaug.audit.results import AuditReport, Null, Outcome, RecipeAudit
from geoaug.data.pictures.composites import Stretch, composite, measure_stretch, select_bands

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["areas_png", "curves_png", "new_figure", "picture_png", "png_bytes", "shared_stretch"]

_ARTEFACT, _APPEARANCE, _NULL = "#b5462f", "#3d6f99", "#d9d9d2"
_DPI = 130
# As on contact sheets: percentiles of the originals, and by how much of its range the stretch is wider at either end.
_LOW, _HIGH, _WIDER = 1.0, 99.0, 0.15


def areas_png(report: AuditReport, recipe: RecipeAudit) -> bytes:
    """Both areas under the curve of a recipe and of each of its operations, over what the null gives."""
    rows: list[tuple[str, Outcome]] = [("the whole recipe", recipe.as_written)]
    for operation in recipe.operations:
        last = operation.outcomes[-1]
        at = "" if last.strength in (None, 1.0) else f" at {last.strength:g}"
        rows.append((f"{operation.name.removeprefix('Random')}{at}", last))
    figure = new_figure(7.4, 1.1 + 0.3 * len(rows))
    axes = figure.add_subplot()
    _null_band(axes, report.artefact_null, vertical=True)
    for place, (_, outcome) in enumerate(rows):
        test = outcome.artefact
        axes.plot([test.low, test.high], [place, place], color=_ARTEFACT, linewidth=2.4, solid_capstyle="round")
        axes.plot(test.auc, place, "o", color=_ARTEFACT, markersize=7, label="artefacts" if not place else None)
        axes.plot(
            outcome.appearance.auc, place, "D", markerfacecolor="white", color=_APPEARANCE, markersize=5,
            label="appearance" if not place else None,
        )  # fmt: skip
    if report.against is not None:
        axes.axvline(
            report.against.appearance.auc, color=_APPEARANCE, linestyle="--", linewidth=1.2,
            label="appearance of the other acquisition",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0.4, 1.01)
    axes.set_xlabel("area under the curve: .5 cannot be told apart, 1 always")
    figure.legend(fontsize=8, loc="outside upper center", ncols=4, frameon=False)
    return png_bytes(figure)


def curves_png(report: AuditReport, recipe: RecipeAudit) -> bytes | None:
    """The artefact area of every operation over its strength; None where none has a strength."""
    lines = [("the whole recipe", recipe.outcomes)]
    lines += [(one.name.removeprefix("Random"), one.outcomes) for one in recipe.operations]
    lines = [(name, outcomes) for name, outcomes in lines if len(outcomes) > 1]
    if not lines:
        return None
    columns = min(4, len(lines))
    rows = -(-len(lines) // columns)
    figure = new_figure(2.3 * columns + 0.4, 1.75 * rows + 0.3)
    first: Axes | None = None
    for number, (name, outcomes) in enumerate(lines):
        axes = figure.add_subplot(rows, columns, number + 1, sharex=first, sharey=first)
        first = first or axes
        _null_band(axes, report.artefact_null, vertical=False)
        strength = [one.strength or 1.0 for one in outcomes]
        tests = [one.artefact for one in outcomes]
        axes.fill_between(strength, [t.low for t in tests], [t.high for t in tests], color=_ARTEFACT, alpha=0.18)
        axes.plot(strength, [t.auc for t in tests], "o-", color=_ARTEFACT, markersize=4, linewidth=1.6)
        axes.plot(
            strength, [one.appearance.auc for one in outcomes], "D--", color=_APPEARANCE, markersize=3, linewidth=1
        )
        axes.set_title(name, fontsize=9)
        axes.set_ylim(0.4, 1.02)
        axes.label_outer()
    figure.supxlabel("strength", fontsize=9)
    figure.supylabel("area under the curve", fontsize=9)
    return png_bytes(figure)


def shared_stretch(originals: Sequence[Example], bands: tuple[int, ...]) -> Stretch:
    """One stretch for all pictures, that of the originals made wider, so that a change of brightness is seen as one."""
    channels = [select_bands(one.image, bands).reshape(len(bands), -1) for one in originals]
    valid = [one.valid.reshape(-1) for one in originals]
    measured = measure_stretch(
        np.concatenate(channels, axis=1)[:, None], np.concatenate(valid)[None], low=_LOW, high=_HIGH
    )
    low, high = np.array(measured.low), np.array(measured.high)
    room = _WIDER * (high - low)
    return Stretch(tuple((low - room).tolist()), tuple((high + room).tolist()))


def picture_png(example: Example, bands: tuple[int, ...], stretch: Stretch) -> bytes:
    """A tile as a picture, a pixel a pixel; what is invalid is hatched."""
    from matplotlib.image import imsave

    rgb = composite(example.image, bands, example.valid, reference=stretch)
    buffer = io.BytesIO()
    imsave(buffer, np.rint(rgb * 255).astype(np.uint8), format="png")
    return buffer.getvalue()


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _null_band(axes: "Axes", null: Null, *, vertical: bool) -> None:
    (axes.axvspan if vertical else axes.axhspan)(
        null.low, null.high, color=_NULL, alpha=0.6, linewidth=0, label="null: untouched tiles"
    )
    (axes.axvline if vertical else axes.axhline)(null.auc, color="#8f8f86", linewidth=1)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def png_bytes(figure: "Figure") -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()

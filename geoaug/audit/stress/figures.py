"""The curves of a stress test as PNG bytes."""

from typing import TYPE_CHECKING

from geoaug.audit.figures import new_figure, png_bytes
from geoaug.audit.stress.results import StressReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["curves_png"]

_CURVE, _CLEAN = "#b5462f", "#3d6f99"


def curves_png(report: StressReport) -> bytes:
    """The metric over the strength of each nuisance, over what it is on the clean tiles."""
    count = len(report.nuisances)
    columns = min(4, count)
    rows = -(-count // columns)
    figure = new_figure(2.4 * columns + 0.4, 1.95 * rows + 0.3)
    first: Axes | None = None
    for number, nuisance in enumerate(report.nuisances):
        axes = figure.add_subplot(rows, columns, number + 1, sharey=first)
        first = first or axes
        places = range(len(nuisance.levels))
        measured = [one.metric for one in nuisance.levels]
        axes.axhspan(report.clean.low, report.clean.high, color=_CLEAN, alpha=0.15, linewidth=0)
        axes.axhline(report.clean.value, color=_CLEAN, linewidth=1)
        axes.fill_between(places, [m.low for m in measured], [m.high for m in measured], color=_CURVE, alpha=0.18)
        axes.plot(places, [m.value for m in measured], "o-", color=_CURVE, markersize=4, linewidth=1.6)
        axes.set_xticks(places, [f"{one.strength:g}" for one in nuisance.levels], fontsize=7)
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title(nuisance.name, fontsize=9)
        axes.set_xlabel(nuisance.unit, fontsize=7)
        axes.margins(x=0.12)
        axes.grid(alpha=0.25)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    unit = f" ({report.metric.unit})" if report.metric.unit else ""
    figure.supylabel(f"{report.metric.name}{unit}", fontsize=9)
    return png_bytes(figure)

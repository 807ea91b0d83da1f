"""The page of a stress test: one HTML text that holds its pictures and needs nothing else."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from geoaug.audit.examples import Example
from geoaug.audit.figures import picture_png, shared_stretch
from geoaug.audit.html import cell, document, image, notes, plot, table
from geoaug.audit.report import write_files
from geoaug.audit.stress.figures import curves_png
from geoaug.audit.stress.results import Measured, NuisanceResult, StressReport
from geoaug.audit.stress.running import WorstPictures
from geoaug.io.preview import composites
from geoaug.sensors import Sensor

__all__ = ["number", "stress_page", "write_stress_report"]

# In units of the metric where that is a percentage: a loss within the first is fair, above the second bad.
_FAIR, _BAD = 2.0, 10.0


def write_stress_report(report: StressReport, pictures: WorstPictures, sensor: Sensor, folder: str | Path) -> Path:
    """Write `report.html` and `report.json` into a folder, and give the path of the page.

    Raises:
        ConfigurationError: the folder cannot be written to.
    """
    return write_files(stress_page(report, pictures, sensor), report.to_dict(), folder)


def stress_page(report: StressReport, pictures: WorstPictures, sensor: Sensor) -> str:
    """The whole report as HTML.

    Args:
        report: what was found.
        pictures: of the worst tiles.
        sensor: which tells their colours.
    """
    height, width = report.tile
    name = Path(report.model).name
    parts = [
        f"<h1>{escape(name)} under stress</h1>",
        f'<p class="quiet">{report.tiles} tiles of {height} &times; {width} pixels from '
        f"{escape(', '.join(report.data))}, as {escape(report.sensor)} with {len(report.bands)} bands "
        f"({escape(' '.join(report.bands))}); geoaug {escape(report.version)}, {report.seconds:.0f} s.</p>",
        f'<p class="verdict">{escape(_sentence(report))}</p>',
        *notes(report.notes),
        *_summary(report),
        *_how_to_read(report),
        "<h2>Over strength</h2>",
        plot(curves_png(report), f"{report.metric.name} over the strength of each nuisance"),
        *table(["", *_heads(report)], _levels(report)),
        "<h2>Tiles that suffer most</h2>",
        '<p class="quiet">At the greatest strength of each nuisance: as the tile is, and under it.</p>',
    ]
    for nuisance in report.nuisances:
        parts += _worst(nuisance, pictures.get(nuisance.name, ()), sensor)
    return document(f"geoaug stress: {name}", parts)


def number(value: float) -> str:
    """A metric, to three figures, or to a tenth where it is large."""
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _sentence(report: StressReport) -> str:
    unit = f" {report.metric.unit}" if report.metric.unit else ""
    hardest = max(report.nuisances, key=lambda one: one.loss.value)
    return (
        f"{report.metric.name}: {number(report.clean.value)}{unit} on the tiles as they are, {number(report.mean)}"
        f"{unit} on average under {len(report.nuisances)} nuisances; {hardest.name} costs most."
    )


def _summary(report: StressReport) -> list[str]:
    rows = [
        [cell("the tiles as they are"), cell(number(report.clean.value)), cell(""), cell(_range(report.clean)),
         cell("", "words")]
    ]  # fmt: skip
    rows += [
        [
            cell(one.name),
            cell(number(one.mean)),
            cell(number(one.loss.value), _grade(report, one.loss)),
            cell(_range(one.loss)),
            cell(one.verdict, "words"),
        ]
        for one in report.nuisances
    ]
    rows.append(
        [cell("mean of the nuisances"), cell(number(report.mean)), cell(number(report.loss.value)),
         cell(_range(report.loss)), cell("", "words")]
    )  # fmt: skip
    return table(["nuisance", f"mean {report.metric.name}", "loss", "95 %", "verdict"], rows)


def _how_to_read(report: StressReport) -> list[str]:
    better = "more" if report.metric.higher_is_better else "less"
    return [
        "<details><summary>How to read this</summary>",
        f"<p>Each nuisance is applied to every tile at each of its strengths, alone. {escape(report.metric.name)}: "
        f"{better} is better; its mean over a nuisance's strengths stands in the table, and how much is lost against "
        "the tiles as they are, above 0 where it is worse. Intervals are 95 per cent of a bootstrap over tiles, of the "
        "same tiles before and after. Corners that a turn brings in show the mirror image of the tile. Nuisances are "
        "geoaug's own operations: a model that was trained with them does better under them than under what the world "
        "invents. docs/stress.md has each of them with its strengths.</p></details>",
    ]


def _heads(report: StressReport) -> list[str]:
    most = max(len(one.levels) for one in report.nuisances)
    return [f"strength {place + 1}" for place in range(most)]


def _levels(report: StressReport) -> list[list[str]]:
    rows = []
    for one in report.nuisances:
        cells = [
            cell(f"{number(level.metric.value)} at {level.strength:g}", _grade(report, level.loss))
            for level in one.levels
        ]
        cells += [cell("")] * (len(_heads(report)) - len(cells))
        rows.append([f"<td>{escape(one.name)} <span class='quiet'>{escape(one.unit)}</span></td>", *cells])
    return rows


def _worst(nuisance: NuisanceResult, pairs: Sequence[tuple[Example, Example]], sensor: Sensor) -> list[str]:
    if not pairs:
        return []
    bands = composites(sensor)[0].bands
    stretch = shared_stretch([before for before, _ in pairs], bands)
    parts = [f"<h3>{escape(nuisance.name)}</h3>", '<div class="tiles">']
    for tile, pair in zip(nuisance.worst, pairs, strict=True):
        shown = "".join(image(picture_png(one, bands, stretch)) for one in pair)
        words = f"{tile.name}: {tile.clean}, then {tile.under}" + (f"; truth {tile.truth}" if tile.truth else "")
        parts.append(f'<figure><div class="strip">{shown}</div><figcaption>{escape(words)}</figcaption></figure>')
    return [*parts, "</div>"]


def _grade(report: StressReport, loss: Measured) -> str:
    """Colours for percentages, by what the interval leaves no doubt of."""
    if report.metric.unit != "%":
        return "bad" if loss.low > 0 else "good"
    return "good" if loss.low <= 0 or loss.value <= _FAIR else "fair" if loss.value <= _BAD else "bad"


def _range(measured: Measured) -> str:
    return f"{number(measured.low)} to {number(measured.high)}"

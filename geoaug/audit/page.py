"""The page of a report: one HTML text that holds its pictures and needs nothing else, neither files nor a network."""

from collections.abc import Sequence
from html import escape

from geoaug.audit.examples import Example, Examples
from geoaug.audit.figures import areas_png, curves_png, picture_png, shared_stretch
from geoaug.audit.html import cell, document, image, notes, plot, table
from geoaug.audit.results import AuditReport, OperationAudit, Outcome, RecipeAudit
from geoaug.io.preview import composites

__all__ = ["report_page"]

# Noise ratios within these are those of a realistic recipe; decibels of high frequencies likewise.
_NOISE_RANGE, _DECIBELS = (0.8, 1.3), 0.8
_SEEN, _OBVIOUS = 0.65, 0.9


def report_page(report: AuditReport, shown: Examples) -> str:
    """The whole report as HTML."""
    names = ", ".join(recipe.name for recipe in report.recipes)
    parts = [
        f"<h1>Audit of {escape(names)}</h1>",
        f'<p class="quiet">{report.tiles} untouched tiles of {report.tile} &times; {report.tile} pixels from '
        f"{escape(', '.join(report.data))}, as {escape(report.sensor)} with {len(report.bands)} bands "
        f"({escape(' '.join(report.bands))}); measured in the middle {report.inner} &times; {report.inner} pixels; "
        f"geoaug {escape(report.version)}, {report.seconds:.0f} s.</p>",
        *notes(report.notes),
        *_summary(report),
        *_how_to_read(report),
    ]
    if report.against is not None:
        parts += _against(report, report.against, shown)
    for recipe in report.recipes:
        parts += _recipe(report, recipe, shown)
    return document(f"geoaug audit: {names}", parts)


def _summary(report: AuditReport) -> list[str]:
    rows = [
        [
            cell(recipe.name),
            _area(recipe.as_written),
            cell(f"{_interval(recipe.as_written)}"),
            cell(f"{_short(recipe.as_written.appearance.auc)}"),
            cell(recipe.verdict, "words"),
        ]
        for recipe in report.recipes
    ]
    if report.against is not None:
        other = report.against
        rows.append(
            [
                cell("the other acquisition"),
                _area(other, plain=True),
                cell(_interval(other)),
                cell(_short(other.appearance.auc)),
                cell("what a real change of date looks like on the same ground", "words"),
            ]
        )
    null = report.artefact_null
    rows.append(
        [
            cell("null: untouched tiles alone"),
            cell(_short(null.auc)),
            cell(f"{_short(null.low)} to {_short(null.high)}"),
            cell(_short(report.appearance_null.auc)),
            cell("two halves of them, one rounded again", "words"),
        ]
    )
    return table(["recipe", "artefact AUC", "95 %", "appearance AUC", "verdict"], rows)


def _how_to_read(report: AuditReport) -> list[str]:
    return [
        "<details><summary>How to read this</summary>",
        "<p><b>Artefact AUC</b>: how well two classifiers tell augmented tiles from untouched ones by what neither "
        "light nor air nor the view can change: noise, sharpness, correlation between bands, rows against columns, "
        "combs in histograms. .5 is chance, 1 certainty; the larger of the two is given. The null is the same test "
        "where there is nothing to tell.</p>",
        "<p><b>Appearance AUC</b>: the same by brightness, contrast, colour and slope. These may change: the question "
        "is whether they change further than between two real acquisitions (<code>--against</code>).</p>",
        "<p><b>Operations</b> are tried alone, on every tile (p = 1); the whole recipe as it is written. Shifts are in "
        "units of the spread between tiles. docs/audit.md has every measure with its formula.</p></details>",
    ]


def _against(report: AuditReport, other: Outcome, shown: Examples) -> list[str]:
    return [
        "<h2>The other acquisition</h2>",
        f"<p>{other.tiles} tiles of the same ground, measured as if they had been augmented.</p>",
        *_measures([("the other acquisition", other)], report),
        *_pictures("", shown, shown.against),
    ]


def _recipe(report: AuditReport, recipe: RecipeAudit, shown: Examples) -> list[str]:
    parts = [f"<h2>{escape(recipe.name)}</h2>"]
    if recipe.summary:
        parts.append(f'<p class="quiet">{escape(recipe.summary)}</p>')
    parts.append(f'<p class="verdict">{escape(_sentence(recipe.verdict))}</p>')
    parts.append(plot(areas_png(report, recipe), f"areas under the curve of {recipe.name}"))
    if recipe.operations:
        parts += [
            "<h3>Each operation alone, on every tile</h3>",
            *table(
                ["operation", "artefact AUC", "appearance AUC", "verdict", "arguments"],
                [_operation_row(one) for one in recipe.operations],
            ),
        ]
    curves = curves_png(report, recipe)
    if curves is not None:
        parts += ["<h3>Over strength</h3>", plot(curves, f"areas under the curve of {recipe.name} over strength")]
    rows = [("the whole recipe", recipe.as_written)]
    rows += [(one.name, one.outcomes[-1]) for one in recipe.operations]
    parts += ["<h3>Shifts</h3>", *_measures(rows, report), "<h3>Before and after</h3>"]
    parts += _pictures("the whole recipe", shown, shown.changed.get((recipe.name, ""), ()))
    for position, operation in enumerate(recipe.operations):
        strength = operation.outcomes[-1].strength
        title = operation.name if strength in (None, 1.0) else f"{operation.name} at strength {strength:g}"
        parts += _pictures(title, shown, shown.changed.get((recipe.name, str(position)), ()))
    return parts


def _operation_row(operation: OperationAudit) -> list[str]:
    last = operation.outcomes[-1]
    given = ", ".join(f"{name}={value}" for name, value in operation.arguments.items())
    return [
        cell(operation.name),
        _area(last),
        cell(_short(last.appearance.auc)),
        cell(operation.verdict, "words"),
        f'<td class="words"><code>{escape(given)}</code></td>',
    ]


def _measures(rows: Sequence[tuple[str, Outcome]], report: AuditReport) -> list[str]:
    """Two tables: what is of a whole tile, and what is of each band."""
    names = list(rows[0][1].measures.indices)
    labelled = any(outcome.measures.label_agreement is not None for _, outcome in rows)
    scored = any(outcome.affinity is not None for _, outcome in rows)
    heads = [
        "",
        "mean",
        "std",
        "Wasserstein",
        "spectral angle",
        *names,
        "invalid",
        "clipped",
        "unphysical",
        "unchanged",
    ]
    heads += ["labels agree", "labels lost"] * labelled + ["affinity", "diversity"] * scored
    body = []
    for title, outcome in rows:
        found = outcome.measures
        angle = "" if found.spectral_angle is None else f"{found.spectral_angle:.2f}&deg;"
        line = [
            cell(title),
            *(cell(f"{_mean(values):.2f}") for values in (found.mean_change, found.std_change, found.wasserstein)),
            f"<td>{angle}</td>",
            *(cell(f"{value:.2f}") for value in found.indices.values()),
            *(cell(_percent(share)) for share in (found.invalid, found.clipped, found.unphysical, outcome.unchanged)),
        ]
        if labelled:
            line += [cell(_percent(found.label_agreement)), cell(_percent(found.ignored_labels))]
        if scored:
            line += [cell(_number(outcome.affinity)), cell(_number(outcome.diversity))]
        body.append(line)
    noise = [
        [cell(title), *(_graded(v, f"{v:.2f}", *_NOISE_RANGE) for v in outcome.measures.noise_ratio)]
        for title, outcome in rows
    ]
    sharp = [
        [cell(title), *(_graded(v, f"{v:+.1f}", -_DECIBELS, _DECIBELS) for v in outcome.measures.sharpness_db)]
        for title, outcome in rows
    ]
    apart = rows[0][1].measures.spectral_angle_of_tiles
    between = "" if apart is None else f" Two tiles are {apart:.1f}&deg; apart in spectral angle (median)."
    return [
        f'<p class="quiet">In units of the spread between tiles, the mean over bands.{between}</p>',
        *table(heads, body),
        '<p class="quiet">Noise of each band, as a ratio to that of the same tile before (median).</p>',
        *table(["", *report.bands], noise),
        '<p class="quiet">Sharpness: change of the power above a quarter of a cycle per pixel, in decibels '
        "(median).</p>",
        *table(["", *report.bands], sharp),
    ]


def _pictures(title: str, shown: Examples, changed: Sequence[Example]) -> list[str]:
    """Originals beside what became of them."""
    if not changed:
        return []
    shown_as = composites(shown.sensor)[0]
    stretch = shared_stretch(shown.originals, shown_as.bands)
    parts = [f"<h4>{escape(title)}</h4>" if title else "", '<div class="tiles">']
    for before, after in zip(shown.originals, changed, strict=False):
        pair = [image(picture_png(one, shown_as.bands, stretch)) for one in (before, after)]
        parts.append(f'<figure><div class="strip">{"".join(pair)}</div><figcaption>before, after</figcaption></figure>')
    return [*parts, "</div>"]


def _area(outcome: Outcome, *, plain: bool = False) -> str:
    area = outcome.artefact.auc
    kind = "" if plain else "good" if area <= _SEEN else "fair" if area <= _OBVIOUS else "bad"
    return cell(_short(area), kind)


def _graded(value: float, text: str, low: float, high: float) -> str:
    """Good within a range, bad more than twice as far out as its ends are from its middle."""
    middle, reach = (low + high) / 2, (high - low) / 2
    away = abs(value - middle) / reach
    return cell(text, "good" if away <= 1 else "fair" if away <= 2 else "bad")


def _interval(outcome: Outcome) -> str:
    return f"{_short(outcome.artefact.low)} to {_short(outcome.artefact.high)}"


def _short(area: float) -> str:
    return f"{area:.2f}".lstrip("0")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _percent(share: float | None) -> str:
    return "" if share is None else "0" if abs(share) < 5e-5 else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."

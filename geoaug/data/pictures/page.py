"""A page addressed in inches: pictures, text and swatches at their positions, and text measured beforehand.

Figures are saved whole or not at all, in the format that the name asks for.
"""

import tempfile
from bisect import bisect_right
from pathlib import Path
from typing import Any, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from geoaug.data.pictures.composites import Colour, Rgb
from geoaug.errors import ConfigurationError

DPI: Final = 150
LINE: Final = 1.32  # line height over font size
INK: Final = "#202124"
QUIET: Final = "#5f6368"
_LARGEST: Final = 1 << 16  # Agg's own limit for a side, in pixels


def text_height(points: float, lines: int = 1) -> float:
    """Height in inches of `lines` lines of text."""
    return lines * points * LINE / 72


class Page:
    """A figure addressed in inches from its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        if max(width, height) * DPI >= _LARGEST:
            raise ConfigurationError(
                f"a contact sheet of {width:.0f} x {height:.0f} inches is too large; show fewer tiles or copies"
            )
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)  # attaches itself to the figure

    def picture(self, rgb: Rgb, left: float, top: float, width: float, height: float) -> None:
        axes = self.figure.add_axes(
            (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        )
        axes.imshow(rgb, interpolation="auto", aspect="equal")
        axes.set_axis_off()

    def text(
        self, words: str, left: float, top: float, points: float, *, colour: str = INK, bold: bool = False
    ) -> None:
        self.figure.text(
            left / self.width,
            1 - top / self.height,
            words,
            fontsize=points,
            color=colour,
            fontweight="bold" if bold else "normal",
            ha="left",
            va="top",
            linespacing=LINE / 1.2,
            parse_math=False,
        )

    def row_label(self, words: str, right: float, middle: float, points: float) -> None:
        self.figure.text(
            right / self.width,
            1 - middle / self.height,
            words,
            fontsize=points,
            color=QUIET,
            ha="right",
            va="center",
            rotation=90,
            parse_math=False,
        )

    def swatch(self, left: float, top: float, side: float, colour: Colour | str, hatch: str | None = None) -> None:
        self.figure.add_artist(
            Rectangle(
                (left / self.width, 1 - (top + side) / self.height),
                side / self.width,
                side / self.height,
                facecolor=colour,
                edgecolor="#9a9a9a" if hatch else "none",
                linewidth=0,
                hatch=hatch,
            )
        )

    def save(self, path: Path) -> None:
        """Write the page as a PNG, whole or not at all; the folder is made where it is missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".geoaug-") as scratch:
            unfinished = Path(scratch) / "page.png"
            self.figure.savefig(unfinished, format="png")
            unfinished.replace(path)


class Ruler:
    """Measures and wraps text in inches, as Agg will draw it."""

    def __init__(self) -> None:
        canvas: Any = FigureCanvasAgg(Figure(dpi=DPI))  # matplotlib leaves its renderers untyped
        self._renderer = canvas.get_renderer()

    def width(self, words: str, points: float, *, bold: bool = False) -> float:
        font = FontProperties(size=points, weight="bold" if bold else "normal")
        return float(self._renderer.get_text_width_height_descent(words, font, ismath=False)[0]) / DPI

    def wrap(self, words: str, points: float, room: float, *, bold: bool = False) -> list[str]:
        """Lines no wider than `room`; a word that is wider than that is cut."""
        lines: list[str] = []
        line = ""
        for word in words.split():
            longer = f"{line} {word}".strip()
            if self.width(longer, points, bold=bold) <= room:
                line = longer
                continue
            if line:
                lines.append(line)
            line = word
            while len(line) > 1 and self.width(line, points, bold=bold) > room:
                fits = len(line) - 1
                while fits > 1 and self.width(line[:fits], points, bold=bold) > room:
                    fits -= 1
                lines.append(line[:fits])
                line = line[fits:]
        return [*lines, line] if line else lines

    def fit(self, words: str, points: float, room: float, *, name: str = "") -> str:
        """Words in a line no wider than `room`, with `name` in them shortened in its middle where they are wider.

        Where that is not enough, or there is no name, the middle of all words is left out.
        """
        if self.width(words, points) <= room:
            return words
        before, name, after = words.partition(name) if name else ("", words, "")

        def shortened(kept: int) -> str:
            return f"{before}{name[: kept // 2]}…{name[len(name) - (kept + 1) // 2 :]}{after}"

        kept = bisect_right(range(len(name)), room, key=lambda count: self.width(shortened(count), points)) - 1
        if kept > 1 or not (before or after):
            return shortened(max(kept, 0))
        return self.fit(words, points, room)


_FORMATS = (".png", ".pdf", ".svg", ".jpg")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to `path`; a file that is there is replaced.

    Raises:
        ConfigurationError: another format, or a path that cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise ConfigurationError(f"{path}: pictures end in {', '.join(_FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise ConfigurationError(f"{path}: the folder {path.parent} does not exist")
    try:
        with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=".geoaug-") as scratch:
            unfinished = Path(scratch) / f"figure{path.suffix.lower()}"
            figure.savefig(unfinished)
            unfinished.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror or error})") from error

"""The pieces that pages of reports are made of: HTML that holds its pictures and needs neither files nor a network."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["cell", "document", "image", "notes", "plot", "table"]

# Columns of sentences.
_WORDS = ("verdict", "arguments")

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1060px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { margin-top: 2.6rem; border-bottom: 2px solid #ddd; }
h3 { margin: 1.6rem 0 .4rem; } .quiet { color: #666; } img.plot { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-size: .88rem; } td, th { padding: .25rem .55rem;
  border-bottom: 1px solid #e4e4e0; text-align: right; vertical-align: top; } th { color: #555; font-weight: 600; }
td:first-child, th:first-child, td.words, th.words { text-align: left; } .scroll { overflow-x: auto; }
td.good { background: #e6f1e4; } td.fair { background: #fbf0d6; } td.bad { background: #f7dcd5; }
.verdict { background: #f5f4ef; border-left: 4px solid #b5462f; padding: .5rem .9rem; }
.tiles { display: flex; flex-wrap: wrap; gap: 6px 14px; } .tiles figure { margin: 0; }
.tiles img { width: 150px; image-rendering: pixelated; display: block; } figcaption { font-size: .78rem; color: #666; }
.strip { display: flex; gap: 4px; } code { font-size: .85rem; } details { margin: .6rem 0; }
"""


def document(title: str, body: Sequence[str]) -> str:
    """The whole page."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style></head><body>",
            *body,
            "</body></html>",
            "",
        ]
    )


def notes(lines: Sequence[str]) -> list[str]:
    """What a person should know, as a list; nothing where there is nothing."""
    return ["<ul>", *(f"<li>{escape(line)}</li>" for line in lines), "</ul>"] if lines else []


def table(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table of cells as `cell` makes them."""
    head = "".join(f'<th class="{"words" if name in _WORDS else ""}">{escape(name)}</th>' for name in heads)
    lines = [f"<tr>{''.join(row)}</tr>" for row in rows]
    return ['<div class="scroll"><table>', f"<tr>{head}</tr>", *lines, "</table></div>"]


def cell(text: str, kind: str = "") -> str:
    """A cell of a table; `kind` is "words", or the colours "good", "fair" and "bad"."""
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"


def plot(png: bytes, words: str) -> str:
    """A plot over the width of the page, and what it shows for who does not see it."""
    return f'<p><img class="plot" alt="{escape(words)}" src="{_data(png)}"></p>'


def image(png: bytes) -> str:
    """A tile."""
    return f'<img alt="" src="{_data(png)}">'


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"

"""A package that is installed beside geoaug, as far as its entry points tell."""

from pathlib import Path

import pytest


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, group: str, name: str, value: str) -> None:
    """Make an entry point known, as if a package `outside-<name>` were installed."""
    site = folder / "site"
    information = site / f"outside_{name}-1.2.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: outside-{name}\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(str(site))

"""What every benchmark shares: interleaved timing, the machine and versions, a table and a JSON file."""

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGES = ("geoaug", "torch", "kornia", "torchvision", "rasterio", "numpy")


def interleaved(candidates: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of every candidate, run in turn A B A B so that a drifting machine is fair to all."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(warmup + rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if turn >= warmup:
                times[name].append(time.perf_counter() - start)
    return times


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Least, median and greatest."""
    return {"min": min(seconds), "median": statistics.median(seconds), "max": max(seconds)}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times longer theirs takes: the median over the pairs of one round."""
    return statistics.median(b / a for a, b in zip(ours, theirs, strict=True))


def provenance() -> dict[str, Any]:
    """Commit, versions and machine of a run."""

    def git(*arguments: str) -> str:
        run = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
        )
        return run.stdout.strip()

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": git("rev-parse", "--short", "HEAD") + ("+changes" if git("status", "--porcelain") else ""),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def publish(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], content: Mapping[str, Any], path: Path
) -> None:
    """Print a table and write everything behind it as JSON."""
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**provenance(), **content}, indent=2) + "\n")
    console.print(f"written to {path}")

"""What a training leaves to look at: a line an epoch, the curves as a table and as a picture.

The rows are in the checkpoints, so that a training that was stopped and resumed has the curves of one that was not.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from torch import Tensor

from geoaug.io.geotiff import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Curves", "curves_figure", "silent"]

_MOST_CURVES = 8


def silent(line: str) -> None:
    """Say nothing; unlike a lambda, this can go to another process."""


class Curves(pl.Callback):
    """Every metric of every epoch, in `curves.csv` and `curves.png`.

    Args:
        folder: for the two.
        tell: called with a line after each epoch.
        shown: metrics that the line has.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None] = silent, shown: Sequence[str] = ()) -> None:
        self.folder, self.tell, self.shown = folder, tell, tuple(shown)
        self.rows: list[dict[str, float]] = []
        self._begun = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begun = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = {
            name.removesuffix("_epoch"): float(value)
            for name, value in trainer.callback_metrics.items()
            if isinstance(value, Tensor) and not name.endswith("_step")
        }
        rate = max(group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups)
        self.rows.append({"epoch": trainer.current_epoch + 1, "lr": float(rate), **values})
        if not trainer.is_global_zero:
            return
        shown = [f"{name} {values[name]:.4g}" for name in self.shown if name in values]
        seconds = time.monotonic() - self._begun
        self.tell(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: {', '.join(shown)} ({seconds:.1f} s)")
        self.write()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and self.rows:
            from geoaug.data.pictures.page import save_figure

            save_figure(curves_figure(self.rows), self.folder / "curves.png")

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = [dict(row) for row in state_dict["rows"]]

    def write(self) -> None:
        """The table, whole or not at all."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self.folder / "curves.csv", text.getvalue().encode())


def curves_figure(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Losses of training and validation beside the metrics of the validation, over the epochs."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for row in rows for name in row))
    overall = [name for name in names if name.startswith("val/") and name.count("/") == 1 and name != "val/loss"]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, group, title in ((left, ["train/loss", "val/loss"], "loss"), (right, overall[:_MOST_CURVES], "val")):
        for name in group:
            points = [(row["epoch"], row[name]) for row in rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else "")
        axes.set(xlabel="epoch", title=title)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    return figure

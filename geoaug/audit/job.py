"""What an audit is asked for, checked before anything is read or imported."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoaug.errors import ConfigurationError
from geoaug.io.job import AugmentJob
from geoaug.sensors import Sensor

if TYPE_CHECKING:
    from geoaug.augment.recipe import Recipe

__all__ = ["AuditJob"]


_LARGEST_STRENGTH = 10.0


@dataclass(frozen=True)
class AuditJob:
    """Compare augmented tiles with the untouched tiles that they are made from.

    Attributes:
        recipes: presets by name, YAML files, mappings, or `Recipe`s.
        scenes: files, folders, products, globs, chips, or a saved catalog, as for `geoaug.data.open_scenes`.
        tile: side of a tile in pixels; None: 64, or the usual shorter side of the scenes where that is less.
        tiles: how many at most, at even steps over all scenes.
        strengths: factors on what operations are asked for; the whole recipe is always tried at 1, too.
        operations: whether each operation is tried alone, besides the whole recipe.
        against: another acquisition of the same ground, whose appearance is measured as a recipe's is.
        against_bands: its bands, in the order of the data's; None: the same names.
        bands: names or 1-based numbers, "B04,B03,B02"; None: all.
        sensor: wins over the recipe's, which wins over what the file says.
        kind: how files are laid out; judged by what is there where "auto".
        invalid: what in quality layers makes a pixel invalid; the usual where None, "" for no layer.
        nodata: the stored value that is no data, or "none"; what files and products say where None.
        expand_palette: take rasters with a palette for the colours that their numbers stand for.
        split: only the ground of this split of a saved catalog, or of a folder of chips.
        gsd_m: ground sampling distance of the tiles in metres; that of the finest wanted band where None.
        labels: of the pixels, as for `geoaug augment`.
        label_field: attribute of a vector file that holds the class.
        ignore_index: id of pixels without a label.
        min_valid: least share of valid pixels of a tile.
        seed: of draws, folds and classifiers.
        device: that augments: "auto", "cpu" or "cuda".
    """

    recipes: "Sequence[str | Path | Mapping[str, Any] | Recipe]"
    scenes: Sequence[str]
    tile: int | None = None
    tiles: int = 300
    strengths: Sequence[float] = (0.3, 0.6, 1.0)
    operations: bool = True
    against: str | None = None
    against_bands: str | Sequence[str | int] | None = None
    bands: str | Sequence[str | int] | None = None
    sensor: str | Path | Sensor | None = None
    kind: str = "auto"
    invalid: str | Sequence[str | int] | None = None
    nodata: float | str | None = None
    expand_palette: bool = False
    split: str | None = None
    gsd_m: float | None = None
    labels: str | Path | None = None
    label_field: str | None = None
    ignore_index: int = 255
    min_valid: float = 0.5
    seed: int = 0
    device: str = "auto"

    def check(self) -> None:
        """Refuse what cannot be meant; raises `ConfigurationError`."""
        if not self.recipes:
            raise ConfigurationError("no recipe to audit: name a preset or a YAML file", argument="recipes")
        if not self.strengths:
            raise ConfigurationError("no strengths: name one at least", argument="strengths")
        for strength in self.strengths:
            if not (math.isfinite(strength) and 0 < strength <= _LARGEST_STRENGTH):
                raise ConfigurationError(
                    f"strength {strength:g} is a factor above 0, {_LARGEST_STRENGTH:g} at most", argument="strengths"
                )
        if self.against is None and self.against_bands is not None:
            raise ConfigurationError("bands of another acquisition, and none is named", argument="against_bands")
        self.reading().check()

    def reading(self) -> AugmentJob:
        """The job that cuts the tiles, and augments them."""
        return AugmentJob(
            scenes=tuple(self.scenes),
            output=".",
            recipe=self.recipes[0],
            copies=1,
            tile=256 if self.tile is None else self.tile,
            bands=self.bands,
            sensor=self.sensor,
            kind=self.kind,
            invalid=self.invalid,
            nodata=self.nodata,
            expand_palette=self.expand_palette,
            split=self.split,
            gsd_m=self.gsd_m,
            labels=self.labels,
            label_field=self.label_field,
            ignore_index=self.ignore_index,
            min_valid=self.min_valid,
            seed=self.seed,
            device=self.device,
        )

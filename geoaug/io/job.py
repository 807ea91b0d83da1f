"""A job of augmenting tiles: its options, checked without reading anything; its progress, counts and report.

The work itself is in `geoaug.io.augment_tiles`. Nothing here imports torch or rasterio.
"""

import math
import shlex
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import yaml

from geoaug.errors import ConfigurationError, GeoaugError
from geoaug.presets import find_recipe
from geoaug.sensors import Sensor

if TYPE_CHECKING:
    from geoaug.augment.recipe import Recipe
    from geoaug.io.manifest import TileRecord

Format = Literal["gtiff", "cog"]
Compression = Literal["zstd", "deflate", "lzw", "none"]


@dataclass(frozen=True)
class AugmentJob:
    """Cut scenes into tiles and write augmented copies of each.

    Attributes:
        scenes: files, folders, products, globs, text lists, addresses, STAC items or a saved catalog, as for
            `geoaug.data.open_scenes`.
        output: folder for the tiles, the manifest and the recipe.
        recipe: a preset's name, a YAML file, a mapping, or a `Recipe`.
        copies: augmented tiles made from each window. 0 only cuts, with `include_original`.
        tile: side of a tile in pixels of the scene's grid; also of the written tile unless the recipe has a size.
        stride: from one window to the next in pixels; None: the tile's side.
        bands: names or 1-based numbers, "B04,B03,B02"; None: all.
        sensor: wins over the recipe's, which wins over what the file says.
        kind: how files are laid out, as for `geoaug index`; judged by what is there where "auto".
        invalid: what in quality layers makes a pixel invalid, by name or number; the usual where None, "" for no layer.
        nodata: the stored value that is no data, or "none"; what files and products say where None.
        expand_palette: take rasters with a palette for the colours that their numbers stand for.
        split: only the ground of this split of a saved catalog, or of a folder of chips.
        gsd_m: ground sampling distance of the tiles in metres; that of the finest wanted band where None.
        labels: a raster or a vector file of class labels; or a folder with a raster for each scene, named as it. Where
            None, the labels that belong to each scene (masks beside images, those that a catalog knows), if any.
        label_field: attribute of a vector file that holds the class.
        ignore_index: id of pixels without a label.
        seed: with the scene's name, the window and the copy it decides all that is drawn.
        device: "auto" (CUDA where there is one), or one of torch's.
        batch_size: augmented tiles at once; None: what fits a modest amount of memory. Changes no pixel.
        workers: threads that read and, besides, as many that write; None: as many as suit the machine. Changes no
            pixel.
        min_valid: least share of valid pixels, of a window and of an augmented tile.
        include_original: also write each window as it is, as copy 0.
        format: of the images and masks.
        compress: of the images and masks.
        overwrite: replace what an earlier run wrote to the folder.
    """

    scenes: Sequence[str]
    output: str | Path
    recipe: "str | Path | Mapping[str, Any] | Recipe" = "standard"
    copies: int = 3
    tile: int = 256
    stride: int | None = None
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
    seed: int = 0
    device: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    min_valid: float = 0.5
    include_original: bool = False
    format: Format = "gtiff"
    compress: Compression = "zstd"
    overwrite: bool = False

    def check(self) -> None:
        """Refuse what cannot be meant; raises `ConfigurationError`."""
        if self.copies < 0 or (self.copies == 0 and not self.include_original):
            raise ConfigurationError(f"copies is {self.copies}: ask for at least one, or for the originals")
        for name in ("tile", "stride", "batch_size", "workers"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ConfigurationError(f"{name.replace('_', ' ')} is {number}: it must be at least 1")
        if self.gsd_m is not None and not 0 < self.gsd_m < math.inf:
            raise ConfigurationError(f"gsd is {self.gsd_m:g}: it is a distance in metres, above 0", argument="gsd_m")
        if not 0 <= self.min_valid <= 1:
            raise ConfigurationError(f"min valid is {self.min_valid}: it is a share within 0 to 1")
        if not 0 <= self.seed < 2**63:
            raise ConfigurationError(f"seed is {self.seed}: it must be within 0 to 2^63 - 1")
        if self.label_field is not None and self.labels is None:
            raise ConfigurationError(f"a label field {self.label_field!r} without labels: name the file of labels")
        for name, choices in (("format", get_args(Format)), ("compress", get_args(Compression))):
            if getattr(self, name) not in choices:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}: choose from {', '.join(choices)}")
        if isinstance(self.recipe, str | Path):
            find_recipe(self.recipe)
        if self.bands is not None and not [band for band in _listed(self.bands) if band]:
            raise ConfigurationError("no bands are asked for: name at least one, or leave bands out for all of them")

    @property
    def labels_of_each(self) -> bool:
        """Whether `labels` is a folder with a raster for each scene."""
        return self.labels is not None and Path(self.labels).is_dir()

    @property
    def stated_sensor(self) -> str | Path | Sensor | None:
        """The sensor of the arguments, or else that of the recipe, read without building its operations.

        Raises `ConfigurationError` where there is no such recipe.
        """
        if self.sensor is not None:
            return self.sensor
        recipe = self.recipe
        if isinstance(recipe, Mapping):
            return recipe.get("sensor")
        if not isinstance(recipe, str | Path):
            return recipe.sensor
        text = find_recipe(recipe).text
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError:
            return None  # a mistake that loading the recipe explains
        sensor = content.get("sensor") if isinstance(content, dict) else None
        return sensor if isinstance(sensor, str) else None

    def command(self) -> str:
        """The command line of what decides the output, for the record, without where to and how fast."""
        defaults = AugmentJob(scenes=(), output="")
        words = ["geoaug", "augment", *map(str, self.scenes)]
        options = {
            "recipe": self.recipe if isinstance(self.recipe, str | Path) else None,
            "copies": self.copies,
            "tile": self.tile,
            "stride": self.stride,
            "bands": None if self.bands is None else ",".join(_listed(self.bands)),
            "sensor": self.sensor.name if isinstance(self.sensor, Sensor) else self.sensor,
            "kind": self.kind,
            "invalid": None if self.invalid is None else ",".join(_listed(self.invalid)) or "none",
            "nodata": None if self.nodata is None else str(self.nodata),
            "split": self.split,
            "gsd": self.gsd_m,
            "labels": self.labels,
            "label-field": self.label_field,
            "ignore-index": self.ignore_index,
            "seed": self.seed,
            "min-valid": self.min_valid,
            "format": self.format,
            "compress": self.compress,
        }
        always = ("recipe", "copies", "tile", "seed")
        for name, value in options.items():
            if value is not None and (name in always or value != getattr(defaults, name.replace("-", "_"), None)):
                words += [f"--{name}", str(value)]
        if self.include_original:
            words.append("--include-original")
        if self.expand_palette:
            words.append("--expand-palette")
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: `done` of `total` tiles are settled, `written` of them are files by now."""

    done: int
    total: int
    written: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that could not be used, wholly or in part.

    Attributes:
        path: of the input.
        reason: why, in a sentence that names it.
    """

    path: str
    reason: str

    @staticmethod
    def of(error: GeoaugError, share: str = "") -> "Failure":
        """From the error that it ended in.

        Args:
            error: which tells its path.
            share: how much of the input it concerns, where that is not all.
        """
        return Failure(error.path or "", f"{error} ({share})" if share else str(error))


@dataclass(frozen=True, slots=True)
class SensorUse:
    """What some of the scenes were taken for."""

    sensor: str
    bands: tuple[str, ...]
    certain: bool
    reason: str
    scenes: int


@dataclass(frozen=True, slots=True)
class AugmentReport:
    """What a job did.

    Attributes:
        output: the folder.
        written: augmented tiles written.
        originals: tiles written as they are.
        windows: of all scenes that could be opened.
        skipped: windows with too few valid pixels.
        dropped: augmented tiles with too few valid pixels.
        unlabelled: written tiles in whose mask no pixel has a label.
        failures: inputs that could not be used.
        notes: what a person should know, each said once.
        sensors: what the scenes were taken for.
        seconds: of the whole job.
        cancelled: whether it was stopped before its end; what is written is whole then, too.
    """

    output: Path
    written: int
    originals: int
    windows: int
    skipped: int
    dropped: int
    unlabelled: int
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    sensors: tuple[SensorUse, ...]
    seconds: float
    cancelled: bool


def _listed(bands: str | Sequence[str | int]) -> list[str]:
    entries = bands.split(",") if isinstance(bands, str) else bands
    return [str(entry).strip() for entry in entries]


_PROGRESS_EVERY_S = 0.1


@dataclass
class Tally:
    """What has been done so far; touched by the calling thread only.

    Attributes:
        on_progress: called with the progress.
        cancel: set to stop.
        started: when.
        total: tiles to be made.
        done: of them, made or not.
        skipped: windows with too little to show.
        dropped: tiles with too little to show.
        records: of the tiles that were written.
        unreadable: errors of windows, by the id of their scene.
        windows: number of windows, by the id of their scene.
        doubts: why the numbers of a scene cannot be what its sensor takes them for, by its path.
    """

    on_progress: Callable[[Progress], None]
    cancel: threading.Event
    started: float
    total: int = 0
    done: int = 0
    skipped: int = 0
    dropped: int = 0
    records: "list[TileRecord]" = field(default_factory=list)
    unreadable: dict[str, list[GeoaugError]] = field(default_factory=lambda: defaultdict(list))
    windows: dict[str, int] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    _reported: float = 0.0

    def settle(self, record: "TileRecord | None") -> None:
        """Count a tile that was written, or dropped."""
        self.done += 1
        if record is None:
            self.dropped += 1
        else:
            self.records.append(record)

    def report(self, *, last: bool = False) -> None:
        """Report the progress, a few times a second."""
        now = time.perf_counter()
        if last or now - self._reported >= _PROGRESS_EVERY_S:
            self._reported = now
            self.on_progress(Progress(self.done, self.total, len(self.records), now - self.started))

    def failures(self) -> list[Failure]:
        """The scenes of which windows could not be read, each with the first error."""
        found = []
        for scene, errors in self.unreadable.items():
            count, total = len(errors), self.windows[scene]
            found.append(Failure.of(errors[0], "" if count == total == 1 else f"{count} of {total} windows"))
        return found

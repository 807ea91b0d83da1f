"""How tiles are read: the options that dataset, data module, `geoaug fit` and the command line share, as one value.

They are written down and checked here once, and how the memory that they allow is shared out. Tiles are read in
`dataset`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import CRSError

from geoaug.data.labels.label_source import LabelSource
from geoaug.data.labels.tile_labels import checked_class_ids
from geoaug.errors import ConfigurationError

Size = int | tuple[int, int]


class TileKeywords(TypedDict, total=False):
    """The fields of `TileOptions` but for the size, as keywords; a test holds the two together."""

    bands: Sequence[str] | str | None
    labels: str | Path | LabelSource | None
    label_field: str | None
    classes: Sequence[int] | int | None
    target: str | None
    ignore_index: int
    crs: str | None
    gsd_m: float | None
    resampling: str
    dtype: str | None
    min_valid: float
    on_error: Literal["raise", "skip"]
    memory_mb: int
    threads: int | None


@dataclass(frozen=True, kw_only=True)
class TileOptions:
    """What a tile holds and how it is read.

    Args:
        size: of a tile in pixels, one number or (height, width); None for chips, which are taken whole.
        bands: names or aliases; by default those of the first scene.
        labels: a raster or vector file with the classes of all scenes; where it is None, the labels that the catalog
            knows: the raster of each scene, or the class of each chip.
        label_field: attribute of a vector file that holds the class.
        classes: the ids that labels may hold besides `ignore_index`: a list, or a number n for 0 to n - 1; by default
            any.
        target: a column of the catalog to learn, in place of "label": numbers for regression, names of classes, or
            lists of names, which come as 0 and 1 for each class.
        ignore_index: where there is no label.
        crs: to warp all scenes to, also those that ground control points or RPCs locate; by default each keeps its own.
        gsd_m: ground sampling distance of the tiles in metres, whose pixels are squares then; by default that of the
            finest wanted band, or GDAL's choice for another CRS.
        resampling: GDAL's name, for what has to be warped (labels always take the nearest).
        dtype: numpy's name of the type of the tiles; by default the stored one.
        min_valid: tiles with a smaller share of valid pixels are left out, and counted in `skipped`.
        on_error: "raise", or "skip": what cannot be read is left out, named once in the log and counted in `skipped`.
        memory_mb: by which the process grows while it reads: decoded pixels, GDAL's own cache (unless GDAL_CACHEMAX is
            set), batches on their way, and up to 128 MB for libraries and allocators. They take about 100 MB of any
            budget, so that one below 256 is overstepped.
        threads: that decode at once; by default as many as this process may use cores.

    Raises:
        ConfigurationError: a value out of its range; `argument` names it.
    """

    size: Size | None = None
    bands: Sequence[str] | str | None = None
    labels: str | Path | LabelSource | None = None
    label_field: str | None = None
    classes: Sequence[int] | int | None = None
    target: str | None = None
    ignore_index: int = 255
    crs: str | None = None
    gsd_m: float | None = None
    resampling: str = "bilinear"
    dtype: str | None = None
    min_valid: float = 0.0
    on_error: Literal["raise", "skip"] = "raise"
    memory_mb: int = 2048
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.on_error not in ("raise", "skip"):
            raise ConfigurationError(
                f"on_error is {self.on_error!r}: it must be 'raise' or 'skip'", argument="on_error"
            )
        if self.resampling not in Resampling.__members__:
            raise ConfigurationError(
                f"resampling {self.resampling!r} is not known; GDAL has {', '.join(Resampling.__members__)}",
                argument="resampling",
            )
        if not 0 <= self.min_valid <= 1:
            raise ConfigurationError(f"min_valid is {self.min_valid}: it is a share from 0 to 1", argument="min_valid")
        if self.gsd_m is not None and not 0 < self.gsd_m < math.inf:
            raise ConfigurationError(f"gsd_m is {self.gsd_m:g}: it is a distance in metres, above 0", argument="gsd_m")
        if self.crs is not None:
            try:
                CRS.from_user_input(self.crs)
            except CRSError as error:
                raise ConfigurationError(f"crs {self.crs!r} is not known ({error})", argument="crs") from error
        if self.memory_mb < 1:
            raise ConfigurationError(f"memory_mb is {self.memory_mb}: it must be at least 1", argument="memory_mb")
        if self.threads is not None and self.threads < 1:
            raise ConfigurationError(f"threads is {self.threads}: it must be at least 1", argument="threads")

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """The names of all options."""
        return tuple(field.name for field in dataclasses.fields(cls))

    @classmethod
    def of(cls, owner: str, options: Mapping[str, Any]) -> Self:
        """The options of a constructor that is called with these keywords.

        Raises:
            TypeError: a keyword that is no option, as Python itself has it.
        """
        if unknown := sorted(set(options) - set(cls.option_names())):
            raise TypeError(f"{owner} has no option {', '.join(unknown)}: it takes {', '.join(cls.option_names())}")
        return cls(**options)

    def tile(self, *, memory_mb: int | None = None) -> "TileOptions":
        """These options for a dataset, with another share of the memory where one is given."""
        kept = {name: getattr(self, name) for name in TileOptions.option_names()}
        return TileOptions(**{**kept, "memory_mb": self.memory_mb if memory_mb is None else memory_mb})

    @property
    def shape(self) -> tuple[int, int] | None:
        """(height, width) of a tile in pixels; None for chips."""
        if self.size is None:
            return None
        pair = tuple(self.size) if isinstance(self.size, list | tuple) else (self.size, self.size)
        if len(pair) != 2 or any(isinstance(side, bool) or not isinstance(side, Integral) for side in pair):
            raise ConfigurationError(
                f"size is {self.size!r}: it is a number of pixels, or two (height, width)", argument="size"
            )
        if min(pair) < 1:
            raise ConfigurationError(
                f"a tile of {pair[0]} x {pair[1]} pixels: it must have one at least", argument="size"
            )
        return int(pair[0]), int(pair[1])

    @property
    def class_ids(self) -> list[int] | None:
        """The ids that labels may hold; None for any."""
        return checked_class_ids(self.classes)


_CHUNK_SHARE = 0.5
_LEAST_CHUNKS = 4
# Of GDAL, where blocks are small: below what is warped there are many of them.
_LEAST_IN_GDAL, _GDAL_SHARE = 64 * 2**20, 1 / 16
# What opening and decoding files, the libraries' tables and the holes between blocks take: measured, not counted.
_BESIDES = 128 * 2**20


@dataclass(frozen=True, slots=True)
class TileMemory:
    """Bytes for each of what reading tiles keeps.

    Attributes:
        chunks: decoded blocks, for tiles that come later.
        gdal: the blocks in work, of all bands, which GDAL would decode anew if it did not keep them.
        batches: tiles on their way and in use.
    """

    chunks: int
    gdal: int
    batches: int

    @property
    def most_for_batches(self) -> int:
        """What batches may take where most of the blocks are given up for them."""
        return self.batches + self.chunks - self.chunks // _LEAST_CHUNKS

    def chunks_beside(self, batch_bytes: int) -> int:
        """What is left for blocks beside batches of so many bytes, a quarter of their share at least."""
        return max(self.chunks - max(batch_bytes - self.batches, 0), self.chunks // _LEAST_CHUNKS)

    @staticmethod
    def of(memory_mb: int, block_bytes: int, threads: int) -> "TileMemory":
        """The shares of `memory_mb`, of which a part is left to allocators and libraries.

        Args:
            memory_mb: in all.
            block_bytes: of the largest block, all bands together.
            threads: that decode at once.
        """
        whole = memory_mb * 2**20
        own = whole - min(_BESIDES, whole // 4)
        usual = min(_LEAST_IN_GDAL, int(whole * _GDAL_SHARE))
        # The order of tiles follows from what is kept decoded: that is the same on every machine.
        chunks = int(own * _CHUNK_SHARE) - usual
        gdal = min(max(2 * threads * block_bytes, usual), (own - chunks) // 2)
        return TileMemory(chunks, gdal, own - chunks - gdal)

"""Which products and samplers there are, by name: one line for each built-in one, and those of other packages.

Another package adds its own by entry points, whose names must not be those of built-in ones:

    [project.entry-points."geoaug.products"]
    planet = "mylab.planet:PlanetScenes"

Names and summaries are known without importing anything, so that the command line can show them; what a name stands for
is imported when it is first wanted.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, Final, NamedTuple

from geoaug.errors import ConfigurationError, did_you_mean
from geoaug.packages import offered


class Home(NamedTuple):
    """Where something built in is: module, name in it, and a few words that say what it is."""

    module: str
    name: str
    summary: str


@dataclass(frozen=True, slots=True)
class Registry:
    """Things of one sort by name.

    Attributes:
        sort: what they are, such as "product".
        argument: of functions and commands that take their names.
        group: of the entry points by which other packages add theirs.
        built_in: by name, in the order in which they are listed and asked.
        reserved: names that mean something else, listed first.
    """

    sort: str
    argument: str
    group: str
    built_in: Mapping[str, Home]
    reserved: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All names: those of other packages first."""
        return [*self._added(), *self.built_in]

    @property
    def summaries(self) -> dict[str, str]:
        """What the built-in ones are, by name."""
        return {name: home.summary for name, home in self.built_in.items()}

    def named(self, name: str) -> Any:
        """What a name stands for, imported now.

        Raises:
            ConfigurationError: nothing has this name, or that of another package cannot be imported.
        """
        if (home := self.built_in.get(name)) is not None:
            return getattr(importlib.import_module(home.module), home.name)
        self.check(name)
        point = self._added()[name]
        try:
            return point.load()
        except Exception as error:  # whatever goes wrong in another package
            package = f" of {point.dist.name}" if point.dist is not None else ""
            raise ConfigurationError(
                f"the {self.sort} '{name}' ({point.value}{package}) cannot be imported "
                f"({type(error).__name__}: {error})",
                argument=self.argument,
            ) from error

    def check(self, name: str) -> None:
        """Raise `ConfigurationError` unless something has this name; nothing is imported."""
        known = [*self.reserved, *self.names]
        if name not in known:
            near = did_you_mean(name, {one: one for one in known})
            raise ConfigurationError(
                f"{self.argument} {name!r} is not known{near}; there are {', '.join(known)}", argument=self.argument
            )

    def _added(self) -> dict[str, EntryPoint]:
        return {name: points[0] for name, points in offered(self.group, {*self.built_in, *self.reserved}).items()}


_PRODUCTS = "geoaug.data.catalog.products"
_SAMPLING = "geoaug.data.sampling"

PRODUCTS: Final = Registry(
    "product",
    "kind",
    "geoaug.products",
    {
        "sentinel-2": Home(f"{_PRODUCTS}.safe", "SentinelSafe", "SAFE folders and zip files"),
        "landsat": Home(f"{_PRODUCTS}.landsat", "LandsatFolder", "folders with an MTL file, and tar files"),
        "stac": Home(f"{_PRODUCTS}.stac", "StacItems", "JSON of items, collections or catalogs, named itself"),
        "pairs": Home(f"{_PRODUCTS}.pairs", "ImagesAndMasks", "images beside masks of the same names"),
        "classes": Home(f"{_PRODUCTS}.classes", "ClassFolders", "a folder of chips for each class"),
        "bands": Home(f"{_PRODUCTS}.bands", "FilesOfBands", "a file for each band"),
        "raster": Home(f"{_PRODUCTS}.raster", "PlainRasters", "each file is a scene"),
    },
    reserved=("auto",),
)
"""How the files of scenes are laid out: `geoaug.data.Product`, asked in this order."""

SAMPLERS: Final = Registry(
    "sampler",
    "sampler",
    "geoaug.samplers",
    {
        "locality": Home(f"{_SAMPLING}.locality_sampler", "LocalityTileSampler", "at random, few blocks decoded"),
        "random": Home(f"{_SAMPLING}.random_sampler", "RandomTileSampler", "at random, each tile by itself"),
        "balanced": Home(f"{_SAMPLING}.balanced_sampler", "BalancedTileSampler", "rare classes as often as others"),
        "grid": Home(f"{_SAMPLING}.grid_sampler", "GridTileSampler", "all ground once, scene after scene"),
    },
)
"""Orders of training tiles: classes whose `for_training` makes a sampler of a dataset (`geoaug.data.TileSampler`)."""

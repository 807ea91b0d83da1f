"""What a product is: a way in which the files of scenes are laid out, recognised by the names of files.

`Product` is what anyone implements who adds one, `SceneSource` what it makes: the files of a scene before any of them
is opened. One product stands in one file of this package and in one line of `geoaug.data.registry`.
How a folder is searched with them is in `geoaug.data.catalog.layouts`. Nothing here opens a file.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from geoaug.data.raster.headers import Header, HeaderOptions
from geoaug.data.raster.record import SceneRecord


@dataclass(frozen=True, slots=True)
class ReadScene:
    """What was read of a scene.

    Attributes:
        record: what a catalog keeps.
        attributes: further columns of the catalog, by name.
        doubt: why the sensor is a guess, None where it is none.
        header: of a scene that is one raster, None for others.
    """

    record: SceneRecord
    attributes: Mapping[str, object] = field(default_factory=dict)
    doubt: str | None = None
    header: Header | None = None


class SceneSource(Protocol):
    """The files of a scene, found by their names.

    It is made in the main thread, and `read` is called once in any of several threads. A source that is a dataclass
    with the field `mask_path` takes labels (`index_files(labels=...)`); others are refused there.

    Attributes:
        kind: of the record, by which a summary counts scenes; mostly the product's name.
        path: what a person would name; the same source has the same path when it is found again.
        name: a path whose last part the scene's id is made of.
        files: those whose size and time of change tell whether the scene has changed.
    """

    @property
    def kind(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def files(self) -> tuple[str, ...]: ...

    def read(self, scene_id: str, options: HeaderOptions) -> ReadScene:
        """Read metadata and headers; the size and time of change in the record are filled in afterwards.

        Raises:
            RasterError: a file is missing, damaged or not what its name says.
            ConfigurationError: the options do not fit the scene.
        """
        ...


@dataclass(frozen=True, slots=True)
class Package:
    """Files of one folder that are a product together: a folder, an archive, or metadata and its rasters.

    Attributes:
        path: what a person would name: the folder, the archive or the file of metadata.
        files: names of the files in the folder that belong to it, and to nothing else; None for all that is in the
            folder and below it.
    """

    path: str
    files: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class LooseFiles:
    """The files below a folder that no product's package holds, or files that were named one by one.

    Attributes:
        folder: that they lie in or below; None for files that were named one by one.
        rasters: paths: sorted within each folder, a folder before those in it; where they were named, as they were.
        pictures: JPEG and PNG, likewise; quicklooks, unless the folder is a data set of chips.
        others: all other files (tables, metadata), likewise.
        beside_packages: whether the folder holds packages, too.
    """

    folder: str | None
    rasters: Sequence[str]
    pictures: Sequence[str] = ()
    others: Sequence[str] = ()
    beside_packages: bool = False

    @property
    def images(self) -> list[str]:
        """Rasters and pictures, sorted."""
        return sorted([*self.rasters, *self.pictures])


@dataclass(slots=True)
class FoundScenes:
    """The scenes that were found, and what was not one.

    Attributes:
        sources: of the scenes.
        taken_for: what folders were taken for, in words, by folder.
        faulty: what cannot be a scene, and why, by path.
        passed_over: files that are no scenes by their names (labels, quality layers).
    """

    sources: list[SceneSource] = field(default_factory=list)
    taken_for: dict[str, str] = field(default_factory=dict)
    faulty: dict[str, str] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)

    def add(self, other: "FoundScenes") -> None:
        """Take over what another search found."""
        self.sources += other.sources
        self.taken_for |= other.taken_for
        self.faulty |= other.faulty
        self.passed_over += other.passed_over


class Product:
    """A way in which the files of scenes are laid out.

    There are two sorts, and a product is one of them. A *package* is recognised by the names of files in one folder (a
    SAFE folder, an MTL file with its rasters, an archive): implement `recognise` and `scenes`. An *arrangement* is how
    all files below a folder are laid out that no package holds (images beside masks, a file for each band): implement
    `arrange`.

    A product has no state: one object serves all searches, which run in the main thread. Only names are looked at, or
    a few headers where names are silent; pixels never.

    Attributes:
        name: that `kind=` and `--kind` take.
    """

    name: ClassVar[str]

    def recognise(self, folder: str, names: Sequence[str]) -> Sequence[Package]:
        """The packages among the files of one folder, by their names.

        Args:
            folder: its absolute path.
            names: of the files in it (not of folders), sorted, without hidden ones and those of earlier packages.
        """
        return ()

    def recognise_input(self, text: str) -> Package | None:
        """The package that a file or address is which a person named by itself; None where it is none.

        By default, what `recognise` finds that has the very path of the file.
        """
        folder, name = os.path.split(os.path.abspath(text))  # noqa: PTH100  # links are left as they are
        path = os.path.join(folder, name)  # noqa: PTH118
        return next((package for package in self.recognise(folder, [name]) if package.path == path), None)

    def scenes(self, package: Package) -> FoundScenes:
        """The scenes of a package that was recognised, and parts of it that cannot be read.

        Raises:
            RasterError: all of it is incomplete or damaged; it is left out then, or ends the work, as `on_error` says.
        """
        raise NotImplementedError

    def arrange(self, files: LooseFiles, *, asked: bool) -> FoundScenes | None:
        """The scenes that loose files are, all of them; None where they are not laid out so.

        Args:
            files: at least one.
            asked: whether a person named this product, so that doubt is no reason to decline.

        Raises:
            ConfigurationError: it was asked for, and the files cannot be laid out so.
        """
        return None

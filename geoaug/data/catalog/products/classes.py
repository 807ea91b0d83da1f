"""Chips in a folder for each class: the folder's name is their label.

Also what names of folders say of splits (`SPLITS`), and how large an image is that counts as a chip.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

from geoaug.data.catalog.products.band_source import BandsSource
from geoaug.data.catalog.products.bands import MASK_FOLDERS, group_files
from geoaug.data.catalog.products.product import FoundScenes, LooseFiles, Product
from geoaug.data.catalog.products.raster import RasterSource
from geoaug.data.raster.files import open_dataset
from geoaug.data.raster.inputs import PICTURE_EXTENSIONS
from geoaug.errors import ConfigurationError, RasterError

SPLITS: Final = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
LARGEST_CHIP: Final = 1024  # pixels of a side
_LOOKED_AT = 16  # headers


class ClassFolders(Product):
    """A folder of small images of one size for each class, also below folders of splits."""

    name = "classes"

    def arrange(self, files: LooseFiles, *, asked: bool) -> FoundScenes | None:
        if files.folder is None:
            return None
        images = files.images
        within = _wrapped(files.folder, images)
        if not asked and (files.beside_packages or not looks_like_classes(within, images)):
            return None
        chips = class_sources(_with_split(files.folder, within), images)
        words = f"chips of {len({chip.label for chip in chips})} classes, a folder for each"
        return FoundScenes(list(chips), {within: words})


def _wrapped(folder: str, files: Sequence[str]) -> str:
    """The lowest folder that holds all files in folders of its own: archives are often unpacked into one more."""
    lowest = os.path.commonpath({os.path.dirname(os.path.dirname(path)) for path in files})  # noqa: PTH120
    return lowest if os.path.commonpath([folder, lowest]) == folder else folder


def _with_split(folder: str, within: str) -> str:
    """The folder above, where the classes lie in that of a split alone."""
    return os.path.dirname(within) if within != folder and os.path.basename(within).lower() in SPLITS else within  # noqa: PTH119, PTH120


def class_sources(folder: str, files: Sequence[str]) -> list[RasterSource]:
    """Each file as a chip of the class that its folder is named by.

    Raises:
        ConfigurationError: a file lies in no class's folder.
    """
    sources = []
    for path in files:
        parts = PurePath(path).relative_to(folder).parts[:-1]
        if not parts:
            raise ConfigurationError(f"{path}: lies beside the folders of the classes, not in one of them", path=path)
        split = None if len(parts) < 2 else SPLITS.get(parts[-2].lower(), parts[-2])
        sources.append(RasterSource(path, kind="chip", label=parts[-1], split=split))
    return sources


def looks_like_classes(folder: str, files: Sequence[str]) -> bool:
    """Whether files lie in a folder for each class: all equally deep, several to a folder, and small images.

    A level of folders above (train, val, test) is allowed where these hold the same classes.
    """
    folders = [PurePath(path).relative_to(folder).parts[:-1] for path in files]
    counts = Counter(folders)
    depths = {len(parts) for parts in counts}
    if depths not in ({1}, {2}) or any({part.lower() for part in parts} & MASK_FOLDERS for parts in counts):
        return False
    classes = Counter(parts[-1] for parts in counts)
    if len(classes) < 2 or max(counts.values()) < 2 or (depths == {2} and max(classes.values()) < 2):
        return False
    first: dict[str, str] = {}
    for path, parts in zip(files, folders, strict=True):
        first.setdefault(parts[-1], path)
    some = list(first.values())[:_LOOKED_AT]
    if any(isinstance(source, BandsSource) for source in group_files(_beside(some[0], files))):
        return False
    if all(path.lower().endswith(PICTURE_EXTENSIONS) for path in some):
        return True
    sizes = set()
    for path in some:
        try:
            with open_dataset(path) as dataset:
                sizes.add((dataset.height, dataset.width))
        except RasterError:
            continue  # reported when its turn comes
    return len(sizes) == 1 and max(sizes.pop()) <= LARGEST_CHIP


def _beside(path: str, files: Sequence[str]) -> list[str]:
    parent = PurePath(path).parent
    return [other for other in files if PurePath(other).parent == parent]

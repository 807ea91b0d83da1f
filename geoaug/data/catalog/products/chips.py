"""Datasets of chips: a folder for each class, and folders of images beside folders of masks.

Names alone tell which files belong together; whether a folder looks like such a dataset is judged here, too.
"""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from geoaug.data.catalog.products.bands import group_files, named_as_other
from geoaug.data.catalog.products.sources import BandsSource, RasterSource
from geoaug.data.raster.files import open_dataset
from geoaug.data.raster.inputs import PICTURE_EXTENSIONS
from geoaug.errors import ConfigurationError, RasterError

_log = logging.getLogger("geoaug")
IMAGE_FOLDERS = frozenset(
    ("image", "images", "img", "imgs", "imagery", "scene", "scenes", "chip", "chips", "tile", "tiles", "sat", "s2", "x")
)
MASK_FOLDERS = frozenset(
    ("mask", "masks", "label", "labels", "annotation", "annotations", "gt", "ground_truth", "target", "targets", "y")
)
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
LARGEST_CHIP = 1024
_LOOKED_AT = 16
_ROLE = re.compile(
    r"^(?:image|img|sat|mask|label|lbl|gt)s?[-_. ]|[-_. ](?:image|img|sat|mask|label|lbl|gt|annotation)s?$",
    re.IGNORECASE,
)


def class_sources(folder: str, files: Sequence[str]) -> list[RasterSource]:
    """Each file as a chip of the class that its folder is named by.

    Raises:
        ConfigurationError: a file lies in no class's folder.
    """
    sources = []
    for path in files:
        parts = PurePath(path).relative_to(folder).parts[:-1]
        if not parts:
            raise ConfigurationError(f"{path}: lies beside the folders of the classes, not in one of them")
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
            continue  # told, or left out, when its turn comes
    return len(sizes) == 1 and max(sizes.pop()) <= LARGEST_CHIP


def pair_sources(folder: str, files: Sequence[str]) -> tuple[list[RasterSource | BandsSource], dict[str, str]]:
    """Images with the masks of the same name in a folder beside theirs; and the images that have none.

    Names are the same where they differ in extension, or in a word such as _mask or _image at an end.
    """
    images: dict[tuple[str, ...], list[str]] = defaultdict(list)
    masks: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for path in files:
        parts = PurePath(path).relative_to(folder).parts[:-1]
        place, is_mask = _role(parts)
        if place is None:
            continue
        where = (*parts[:place], "*", *parts[place + 1 :])
        if is_mask:
            for stem in _stems(path):
                masks[where].setdefault(stem, path)
        else:
            images[where].append(path)
    sources: list[RasterSource | BandsSource] = []
    alone: dict[str, str] = {}
    used: set[str] = set()
    for where, paths in images.items():
        split = next((SPLITS[part.lower()] for part in where if part.lower() in SPLITS), None)
        for source in group_files(paths):
            assert isinstance(source, RasterSource | BandsSource)
            mask = next((masks[where][stem] for stem in _stems(source.name) if stem in masks[where]), None)
            if mask is None:
                alone[source.path] = f"{source.path}: no mask has its name"
                continue
            used.add(mask)
            sources.append(replace(source, mask_path=mask, split=split, kind="chip"))
    unused = {path for found in masks.values() for path in found.values()} - used
    if unused:
        _log.warning("%d masks have no image of their name, such as %s", len(unused), min(unused))
    return sources, alone


def looks_like_pairs(folder: str, files: Sequence[str]) -> bool:
    """Whether there is a folder of images beside a folder of masks."""
    found: dict[tuple[str, ...], set[bool]] = defaultdict(set)
    for parts in {PurePath(path).relative_to(folder).parts[:-1] for path in files}:
        place, is_mask = _role(parts)
        if place is not None:
            found[(*parts[:place], "*", *parts[place + 1 :])].add(is_mask)
    return any(len(roles) == 2 for roles in found.values())


def with_labels(
    sources: Sequence[RasterSource | BandsSource], masks: Sequence[str]
) -> tuple[list[RasterSource | BandsSource], dict[str, str]]:
    """Scenes with the masks of the same name; and those that have none."""
    by_stem: dict[str, str] = {}
    for path in masks:
        for stem in _stems(path):
            by_stem.setdefault(stem, path)
    found, alone = [], {}
    for source in sources:
        mask = next((by_stem[stem] for stem in _stems(source.name) if stem in by_stem), None)
        if mask is None:
            alone[source.path] = f"{source.path}: no labels have its name"
        else:
            found.append(replace(source, mask_path=mask))
    return found, alone


def is_for_labels(path: str) -> bool:
    """Whether a file is named as labels or a quality layer are, or lies in a folder of masks."""
    return named_as_other(path) or PurePath(path).parent.name.lower() in MASK_FOLDERS


def _role(parts: Sequence[str]) -> tuple[int | None, bool]:
    """Which of the folders above a file says that it is an image or a mask, the nearest one first."""
    for place in reversed(range(len(parts))):
        name = parts[place].lower()
        if name in IMAGE_FOLDERS or name in MASK_FOLDERS:
            return place, name in MASK_FOLDERS
    return None, False


def _stems(path: str) -> list[str]:
    stem = PurePath(path).stem
    return list(dict.fromkeys([stem, _ROLE.sub("", stem)]))


def _beside(path: str, files: Sequence[str]) -> list[str]:
    parent = PurePath(path).parent
    return [other for other in files if PurePath(other).parent == parent]

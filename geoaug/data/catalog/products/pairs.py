"""Images in one folder and masks of the same names in another beside it; and labels matched to scenes by name."""

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from geoaug.data.catalog.products.band_source import BandsSource
from geoaug.data.catalog.products.bands import MASK_FOLDERS, group_files
from geoaug.data.catalog.products.classes import SPLITS
from geoaug.data.catalog.products.product import FoundScenes, LooseFiles, Product
from geoaug.data.catalog.products.raster import RasterSource
from geoaug.errors import ConfigurationError

_log = logging.getLogger("geoaug")
_IMAGE_FOLDERS = frozenset(
    ("image", "images", "img", "imgs", "imagery", "scene", "scenes", "chip", "chips", "tile", "tiles", "sat", "s2", "x")
)
_ROLE = re.compile(
    r"^(?:image|img|sat|mask|label|lbl|gt)s?[-_. ]|[-_. ](?:image|img|sat|mask|label|lbl|gt|annotation)s?$",
    re.IGNORECASE,
)


class ImagesAndMasks(Product):
    """A folder of images beside a folder of masks, at any depth."""

    name = "pairs"

    def arrange(self, files: LooseFiles, *, asked: bool) -> FoundScenes | None:
        images = files.images
        if files.folder is None or not (asked or looks_like_pairs(files.folder, images)):
            return None
        pairs, alone = pair_sources(files.folder, images)
        if not pairs and asked:
            raise ConfigurationError(
                f"{files.folder}: no image has a mask: folders are images and masks (or labels...) beside each other, "
                f"with files of the same names{'; ' + next(iter(alone.values())) if alone else ''}",
                path=files.folder,
            )
        return FoundScenes(list(pairs), {files.folder: f"{len(pairs)} images with masks"}, alone)


def pair_sources(folder: str, files: Sequence[str]) -> tuple[list[RasterSource | BandsSource], dict[str, str]]:
    """Images with the masks of the same name in a folder beside theirs; and the images that have none.

    Names are the same where they differ in extension, or in a word such as _mask or _image at an end.
    """
    images: dict[tuple[str, ...], list[str]] = defaultdict(list)
    masks: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for path in files:
        parts = PurePath(path).relative_to(folder).parts[:-1]
        depth, is_mask = _role(parts)
        if depth is None:
            continue
        where = (*parts[:depth], "*", *parts[depth + 1 :])
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
        depth, is_mask = _role(parts)
        if depth is not None:
            found[(*parts[:depth], "*", *parts[depth + 1 :])].add(is_mask)
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


def _role(parts: Sequence[str]) -> tuple[int | None, bool]:
    """Which of the folders above a file says that it is an image or a mask, the nearest one first."""
    for depth in reversed(range(len(parts))):
        name = parts[depth].lower()
        if name in _IMAGE_FOLDERS or name in MASK_FOLDERS:
            return depth, name in MASK_FOLDERS
    return None, False


def _stems(path: str) -> list[str]:
    stem = PurePath(path).stem
    return list(dict.fromkeys([stem, _ROLE.sub("", stem)]))

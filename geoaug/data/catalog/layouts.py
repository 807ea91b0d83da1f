"""What a folder holds: products, chips, files of bands, rasters; by names, and a few headers where they are silent."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from geoaug.data.catalog.products.bands import group_files
from geoaug.data.catalog.products.chips import (
    SPLITS,
    class_sources,
    is_for_labels,
    looks_like_classes,
    looks_like_pairs,
    pair_sources,
    with_labels,
)
from geoaug.data.catalog.products.landsat import is_landsat_metadata, is_landsat_tar, landsat_sources, tar_sources
from geoaug.data.catalog.products.safe import is_safe, is_zipped_safe, safe_sources
from geoaug.data.catalog.products.sources import BandsSource, RasterSource, SceneSource
from geoaug.data.raster.inputs import PICTURE_EXTENSIONS, RASTER_EXTENSIONS, resolve_inputs
from geoaug.errors import ConfigurationError, RasterError

Kind = Literal["auto", "raster", "bands", "sentinel-2", "landsat", "classes", "pairs"]

# What people give that is no raster.
_OTHERWISE = {
    ".json": "is JSON; STAC is indexed by itself, by Catalog.from_stac",
    ".geojson": "is JSON; STAC is indexed by itself, by Catalog.from_stac",
    ".parquet": "is a table; a catalog is opened by Catalog.open, and brought up to date by geoaug index --refresh",
    ".zip": "is no zipped Sentinel-2 product by its name; unpack it, and index the folder",
    ".tar": "is no Landsat product by its name; unpack it, and index the folder",
    ".gz": "is an archive; unpack it, and index the folder",
}
_DESCRIPTION = re.compile(r"_labels_metadata\.json$")


@dataclass(slots=True)
class Layout:
    """What was found.

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


def find_sources(inputs: Sequence[str], kind: Kind = "auto", labels: str | None = None) -> Layout:
    """The scenes that inputs hold.

    Args:
        inputs: as for `resolve_inputs`; folders may hold products and chips.
        kind: how their files are laid out.
        labels: a file with the labels of all scenes, or a folder with a raster for each, named as the scene.

    Raises:
        ConfigurationError: an input does not exist, holds nothing, or is not laid out as `kind` says.
    """
    if kind not in get_args(Kind):
        raise ConfigurationError(f"kind {kind!r} is not known; there are {', '.join(get_args(Kind))}")
    layout = Layout()
    files: list[str] = []
    for text in inputs:
        path = str(Path(text).expanduser())
        if Path(path).is_dir():
            _search(os.path.abspath(path), kind, layout)  # noqa: PTH100  # links are left as they are
        elif is_zipped_safe(path) and kind in ("auto", "sentinel-2"):
            _add_packed(safe_sources, os.path.abspath(path), layout)  # noqa: PTH100
        elif is_landsat_tar(path) and Path(path).is_file() and kind in ("auto", "landsat"):
            _add_packed(tar_sources, os.path.abspath(path), layout)  # noqa: PTH100
        else:
            if (advice := _OTHERWISE.get(Path(path).suffix.lower())) is not None:
                raise ConfigurationError(f"{text}: {advice}")
            files += [_absolute(found) for found in resolve_inputs([text])]
    if files:
        if kind not in ("auto", "raster", "bands"):
            raise ConfigurationError(f"{files[0]}: kind={kind!r} is for folders; name the folder")
        layout.sources += group_files(list(dict.fromkeys(files)), kind=kind)
    if labels is not None:
        _label(layout, labels)
    if not layout.sources and not layout.faulty:
        raise ConfigurationError(
            f"{', '.join(inputs)}: no scene found (looked for {', '.join(RASTER_EXTENSIONS)}, Sentinel-2 SAFE and "
            "Landsat products, and chips in folders)"
            if kind == "auto"
            else f"{', '.join(inputs)}: nothing laid out as kind={kind!r} was found; kind='auto' looks for everything"
        )
    _drop_repeated(layout)
    return layout


def _search(folder: str, kind: Kind, layout: Layout) -> None:
    rasters: list[str] = []
    pictures: list[str] = []
    descriptions: dict[str, str] = {}
    before = len(layout.sources)
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in names if not name.startswith("."))
        if kind in ("auto", "sentinel-2"):
            if is_safe(root, names):
                folders.clear()
                _add_packed(safe_sources, root, layout)
                continue
            for name in filter(is_zipped_safe, names):
                _add_packed(safe_sources, str(Path(root, name)), layout)
        if kind in ("auto", "landsat"):
            for name in filter(is_landsat_tar, names):
                _add_packed(tar_sources, str(Path(root, name)), layout)
        if kind in ("auto", "landsat") and any(map(is_landsat_metadata, names)):
            products = landsat_sources(root, names)
            layout.sources += products
            taken = {path for product in products for path in product.files}
            names = [name for name in names if os.path.join(root, name) not in taken]  # noqa: PTH118
        for name in names:
            lower = name.lower()
            if lower.endswith(RASTER_EXTENSIONS):
                rasters.append(os.path.join(root, name))  # noqa: PTH118  # a hundred thousand times
            elif lower.endswith(PICTURE_EXTENSIONS):
                pictures.append(os.path.join(root, name))  # noqa: PTH118
            elif _DESCRIPTION.search(name):
                descriptions[os.path.join(root, _DESCRIPTION.sub("", name))] = os.path.join(root, name)  # noqa: PTH118
    if kind in ("sentinel-2", "landsat"):
        return
    products_found = len(layout.sources) > before
    # Pictures beside rasters or products are quicklooks, unless the folder is one of chips.
    everything = sorted([*rasters, *pictures])
    if not everything:
        return
    if kind == "pairs" or (kind == "auto" and looks_like_pairs(folder, everything)):
        pairs, alone = pair_sources(folder, everything)
        if not pairs and kind == "pairs":
            raise ConfigurationError(
                f"{folder}: no image has a mask: folders are images and masks (or labels...) beside each other, with "
                f"files of the same names{'; ' + next(iter(alone.values())) if alone else ''}"
            )
        layout.sources += pairs
        layout.faulty |= alone
        layout.taken_for[folder] = f"{len(pairs)} images with masks"
        return
    within = _wrapped(folder, everything)
    if kind == "classes" or (kind == "auto" and not products_found and looks_like_classes(within, everything)):
        chips = class_sources(_with_split(folder, within), everything)
        layout.sources += chips
        layout.taken_for[within] = f"chips of {len({chip.label for chip in chips})} classes, a folder for each"
        return
    chosen = rasters or ([] if products_found else pictures)
    if kind == "auto":
        # Labels and quality layers are no scenes, unless there is nothing else.
        scenes = [path for path in chosen if not is_for_labels(path)]
        sources = group_files(chosen)
        if scenes:
            other = set(chosen) - set(scenes)
            sources = [s for s in sources if not (isinstance(s, RasterSource) and s.path in other)]
            used = {path for source in sources for path in source.files} if other else set()
            layout.passed_over += [path for path in chosen if path in other and path not in used]
    else:
        sources = group_files(chosen, kind=kind)
    if descriptions:
        sources = [_described(source, descriptions) for source in sources]
    layout.sources += sources


def _wrapped(folder: str, files: Sequence[str]) -> str:
    """The lowest folder that holds all files in folders of its own: archives are often unpacked into one more."""
    lowest = os.path.commonpath({os.path.dirname(os.path.dirname(path)) for path in files})  # noqa: PTH120
    return lowest if os.path.commonpath([folder, lowest]) == folder else folder


def _with_split(folder: str, within: str) -> str:
    """The folder above, where the classes lie in that of a split alone."""
    return os.path.dirname(within) if within != folder and os.path.basename(within).lower() in SPLITS else within  # noqa: PTH119, PTH120


def _drop_repeated(layout: Layout) -> None:
    """Leave each scene once: a folder may be named twice, or a file with its folder, and a product be zipped, too."""
    by_path = {source.path: source for source in layout.sources}
    by_name: dict[str, SceneSource] = {}
    for source in by_path.values():
        if (other := by_name.setdefault(source.name, source)) is not source:
            layout.faulty[source.path] = f"{source.path}: is the same scene as {other.path}; keep one of them"
    layout.sources = list(by_name.values())


def _described(source: SceneSource, descriptions: dict[str, str]) -> SceneSource:
    found = descriptions.get(os.path.splitext(source.name)[0])  # noqa: PTH122
    if found is None or not isinstance(source, BandsSource):
        return source
    return replace(source, described=found, kind="chip")


def _add_packed(read: Callable[[str], Sequence[SceneSource]], product: str, layout: Layout) -> None:
    try:
        layout.sources += read(product)
    except RasterError as error:
        layout.faulty[product] = str(error)


def _label(layout: Layout, labels: str) -> None:
    place = Path(labels).expanduser().absolute()
    if place.is_dir():
        masks = sorted(str(path) for path in place.rglob("*") if path.suffix.lower() in (*RASTER_EXTENSIONS, ".png"))
        if not masks:
            raise ConfigurationError(f"{labels}: no raster of labels in this folder")
        # A folder of labels inside that of the scenes was taken for scenes.
        sources = [source for source in layout.sources if source.path not in set(masks)]
        simple = [source for source in sources if isinstance(source, RasterSource | BandsSource)]
        if len(simple) < len(sources):
            raise ConfigurationError("labels by name are for rasters and files of bands; give products one label file")
        found, alone = with_labels(simple, masks)
        layout.sources = list(found)
        layout.faulty |= alone
        return
    if not place.exists():
        raise ConfigurationError(f"{labels}: no such file or folder of labels")
    layout.sources = [replace(source, mask_path=str(place)) for source in layout.sources]  # type: ignore[type-var]


def _absolute(path: str) -> str:
    return os.path.abspath(path) if os.path.exists(path) else path  # noqa: PTH100, PTH110

"""A file for each band: which of many files belong together as a scene, its quality layer and its labels.

Names tell: files of one folder that are named alike but for a band are one scene. Only where they may mislead are a few
headers looked at. How such a scene is read is in `geoaug.data.catalog.products.band_source`.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import PurePath

from geoaug.data.catalog.products.band_source import BandsSource
from geoaug.data.catalog.products.product import FoundScenes, LooseFiles, Product, SceneSource
from geoaug.data.catalog.products.raster import RasterSource
from geoaug.data.raster.advice import A_SCENE_A_FILE
from geoaug.data.raster.bands import image_indexes
from geoaug.data.raster.files import open_dataset
from geoaug.data.raster.identify import product_of
from geoaug.data.raster.quality import SCHEMES
from geoaug.errors import ConfigurationError, RasterError

_NUMBERED = re.compile(r"B\d{1,2}", re.IGNORECASE)
_LOOKED_AT = 4


_EDGES = r"(?<![A-Za-z0-9])(?:{})(?![A-Za-z0-9])"
_BAND_WORD = re.compile(
    _EDGES.format(
        r"(?:SR_)?B\d{1,2}A?|BAND_?\d{1,2}|COASTAL|BLUE|GREEN|RED|NIR(?:0?[89])?|SWIR_?(?:\d|16|22)|RED_?EDGE_?\d?"
        "|VV|VH|HH|HV"
    ),
    re.IGNORECASE,
)
_OTHER_WORD = re.compile(_EDGES.format("SCL|BQA|QA_PIXEL|LABELS?|MASKS?|CLASSES|GT|GROUND_?TRUTH"), re.IGNORECASE)
_QUALITY = {"SCL", "BQA", "QA_PIXEL"}
# Rasters of Landsat products that are neither bands of reflectance nor the flags that validity comes from: words that
# no other mission uses, and those that count only at the end of the name of a product (L2SP, L1TP, or a tile of ARD).
_LAYER = (
    "QA_RADSAT|QA_LINEAGE|SR_QA_AEROSOL|SR_CLOUD_QA|SR_ATMOS_OPACITY|ST_QA|ST_(?:ATRAN|CDIST|DRAD|EMIS|EMSD|TRAD|URAD)"
)
_LAYER_WORD = re.compile(_EDGES.format(_LAYER), re.IGNORECASE)
_LAYER_OF_PRODUCT = re.compile(_EDGES.format(rf"{_LAYER}|(?:ST_B\d{{1,2}}|B6_VCID_\d|[SV][AZ]A)$"), re.IGNORECASE)
_LANDSAT = re.compile(r"(?<![A-Za-z0-9])L[COTEM]0\d_(?:L[12][A-Z]{2}|[A-Z]{2})_\d{6}_|^ST_B\d{1,2}$", re.IGNORECASE)
_RESOLUTION = re.compile(r"_([1-9]\d)m$")
_WILD = "*"
# Words that end the names of files beside the bands of BigEarthNet, with the labels of the whole patch.
_DESCRIPTION = re.compile(r"_labels_metadata\.json$")
MASK_FOLDERS = frozenset(
    ("mask", "masks", "label", "labels", "annotation", "annotations", "gt", "ground_truth", "target", "targets", "y")
)


class FilesOfBands(Product):
    """Files of one folder named alike but for a band; unless asked for, other rasters are scenes by themselves."""

    name = "bands"

    def arrange(self, files: LooseFiles, *, asked: bool) -> FoundScenes | None:
        chosen = list(files.rasters or ([] if files.beside_packages else files.pictures))
        found = FoundScenes(group_files(chosen, kind="bands" if asked else "auto"))
        if not asked and files.folder is not None:
            # Labels and quality layers are no scenes, unless there is nothing else.
            other = {path for path in chosen if _is_for_labels(path)}
            if len(other) < len(chosen):
                found.sources = [s for s in found.sources if not (isinstance(s, RasterSource) and s.path in other)]
                used = {path for source in found.sources for path in source.files} if other else set()
                found.passed_over = [path for path in chosen if path in other and path not in used]
        described = {_DESCRIPTION.sub("", path): path for path in files.others if _DESCRIPTION.search(path)}
        if described:
            found.sources = [_described(source, described) for source in found.sources]
        return found


def _is_for_labels(path: str) -> bool:
    """Whether a file is named as labels or a quality layer are, or lies in a folder of masks."""
    return named_as_other(path) or PurePath(path).parent.name.lower() in MASK_FOLDERS


def _described(source: SceneSource, descriptions: Mapping[str, str]) -> SceneSource:
    """The source with the file that describes its labels, where there is one."""
    found = descriptions.get(os.path.splitext(source.name)[0])  # noqa: PTH122
    if found is None or not isinstance(source, BandsSource):
        return source
    return replace(source, described=found, kind="chip")


def group_files(paths: Sequence[str], *, kind: str = "auto") -> list[SceneSource]:
    """The scenes that files are, in the order of their first files.

    Args:
        paths: rasters, each once.
        kind: "raster" (each file is a scene), "bands" (each file is a band), or "auto": two files or more that are
            named alike but for the band are a scene, unless they hold several bands each, and other files are scenes
            by themselves. Layers of a Landsat product that are no part of its scene are left out beside its bands.

    Raises:
        ConfigurationError: files of bands are asked for, and a file names none.
    """
    if kind == "raster":
        return [RasterSource(path) for path in paths]
    words: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    others: dict[str, list[tuple[str, str]]] = defaultdict(list)
    layers: list[tuple[str, str]] = []
    order = {path: number for number, path in enumerate(paths)}
    plain: list[str] = []
    for path in paths:
        stem = PurePath(path).stem
        if (layer := _layer(stem)) is not None:
            layers.append((_pattern(path, stem, layer), path))
            continue
        named, other = list(_BAND_WORD.finditer(stem)), list(_OTHER_WORD.finditer(stem))
        if len(named) == 1 and not other:
            words[_pattern(path, stem, named[0])][named[0].group().upper()].append(path)
        elif len(other) == 1 and not named:
            others[_pattern(path, stem, other[0])].append((other[0].group().upper(), path))
        elif kind == "bands":
            raise ConfigurationError(
                f"{path}: its name tells no band; name files like scene_B04.tif, or index them with {A_SCENE_A_FILE}",
                path=path,
            )
        else:
            plain.append(path)
    found: list[tuple[int, SceneSource]] = []
    alone = {PurePath(path).with_suffix(""): path for path in plain}
    masks: dict[str, str] = {}
    plain += [path for pattern, path in layers if pattern not in words]
    for pattern, bands in words.items():
        chosen = {word: _finest(files) for word, files in bands.items()}
        if None in chosen.values() or (len(chosen) == 1 and kind != "bands"):
            plain += [path for files in bands.values() for path in files]
            continue
        files = {word: path for word, path in chosen.items() if path is not None}
        quality = next((item for item in others.get(pattern, ()) if item[0] in _QUALITY), None)
        labels = [path for word, path in others.pop(pattern, ()) if word not in _QUALITY]
        if len(labels) > 1:
            raise ConfigurationError(f"{labels[0]} and {labels[1]} both seem to be labels of one scene; keep one")
        first = min(order[path] for path in files.values())
        found.append((first, _bands_source(pattern, files, quality, labels[0] if labels else None)))
    for pattern, items in others.items():
        # Labels named as their scene is, with a word more.
        for word, path in items:
            scene = alone.get(PurePath(_without_word(pattern)))
            if scene is not None and word not in _QUALITY:
                masks[scene] = path
            else:
                plain.append(path)
    found += [(order[path], RasterSource(path, mask_path=masks.get(path))) for path in plain]
    sources = [source for _, source in sorted(found, key=lambda item: item[0])]
    return stacks_apart(sources) if kind == "auto" else sources


def stacks_apart(sources: Sequence[SceneSource]) -> list[SceneSource]:
    """The sources, with groups whose files hold several bands each as a scene for each file.

    Only groups without labels and quality layer are doubted, whose bands are mere numbers (b0, b1...) and whose names
    tell no product. A header is looked at of the first few of them; where all these hold several bands, the others are
    taken to.
    """
    doubted = (source for source in sources if isinstance(source, BandsSource) and _is_generic(source))
    looked_at = {id(source): _is_stacks(source) for source in islice(doubted, _LOOKED_AT)}
    if not any(looked_at.values()):
        return list(sources)
    all_are = all(looked_at.values())
    apart: list[SceneSource] = []
    for source in sources:
        if isinstance(source, BandsSource) and looked_at.get(id(source), all_are and _is_generic(source)):
            apart += [RasterSource(path) for path in source.bands.values()]
        else:
            apart.append(source)
    return apart


def _is_generic(source: BandsSource) -> bool:
    alone = source.quality is None and source.mask_path is None
    return alone and all(map(_NUMBERED.fullmatch, source.bands)) and product_of(PurePath(source.name).name, {}) is None


def _is_stacks(source: BandsSource) -> bool:
    """Whether each file of a group holds several bands; mostly the first one denies it."""
    return all(map(_holds_several, source.bands.values()))


def _holds_several(path: str) -> bool:
    try:
        with open_dataset(path) as dataset:
            return len(image_indexes(dataset, None, None)) > 1
    except RasterError:
        return False  # reported when its turn comes


def named_as_other(path: str) -> bool:
    """Whether a file is named as labels, a quality layer or a layer of a Landsat product beside its bands are."""
    stem = PurePath(path).stem
    return _OTHER_WORD.search(stem) is not None or _layer(stem) is not None


def _layer(stem: str) -> "re.Match[str] | None":
    """The word that names a layer of a Landsat product that is no part of a scene."""
    return (_LAYER_OF_PRODUCT if _LANDSAT.search(stem) else _LAYER_WORD).search(stem)


def _pattern(path: str, stem: str, word: "re.Match[str]") -> str:
    """The path with the band's word and the resolution left open; the same for all files of a scene."""
    pure = PurePath(path)
    opened = _RESOLUTION.sub("", stem[: word.start()] + _WILD + stem[word.end() :])
    return str(pure.with_name(opened + pure.suffix))


def _without_word(pattern: str) -> str:
    pure = PurePath(pattern)
    return str(pure.with_name(re.sub(r"[-_. ]*\*[-_. ]*$|^\*[-_. ]*", "", pure.stem) or _WILD))


def _finest(files: Iterable[str]) -> str | None:
    """The file of the finest resolution by name; None where names do not tell."""
    by_resolution: dict[int, str] = {}
    files = list(files)
    if len(files) == 1:
        return files[0]
    for path in files:
        named = _RESOLUTION.search(PurePath(path).stem)
        if named is None or int(named[1]) in by_resolution:
            return None
        by_resolution[int(named[1])] = path
    return by_resolution[min(by_resolution)]


def _bands_source(
    pattern: str, files: dict[str, str], quality: tuple[str, str] | None, labels: str | None
) -> BandsSource:
    pure = PurePath(pattern)
    stem = re.sub(r"[-_. ]*\*[-_. ]*", "_", pure.stem).strip("_-. ")
    # A folder of B02.tif, B03.tif... is named by the folder.
    name = str(pure.with_name(stem + ".tif")) if stem else str(pure.parent)
    assert quality is None or quality[0] in SCHEMES
    return BandsSource(
        path=pattern if stem else str(pure.parent), name=name, bands=files, quality=quality, mask_path=labels
    )

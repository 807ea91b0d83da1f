"""Which scenes inputs hold: each folder is searched with all products, by names alone.

What a product is stands in `geoaug.data.catalog.products.product`. Here folders are walked, each product is asked in
turn, what no package holds is arranged, and labels are matched. Headers are read afterwards, by
`geoaug.data.catalog.index`.
"""

import os
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

from geoaug.data.catalog.products.band_source import BandsSource
from geoaug.data.catalog.products.pairs import with_labels
from geoaug.data.catalog.products.product import FoundScenes, LooseFiles, Package, Product, SceneSource
from geoaug.data.catalog.products.raster import RasterSource
from geoaug.data.raster.inputs import PICTURE_EXTENSIONS, RASTER_EXTENSIONS, resolve_inputs
from geoaug.data.registry import PRODUCTS
from geoaug.errors import ConfigurationError, RasterError

_CATALOG = "is a table; a catalog is opened by Catalog.open, and brought up to date by geoaug index --refresh"
_ARCHIVE = "is an archive, and no product by its name ({}); unpack it, and index the folder"
# What people give that is no raster.
_NO_RASTER = {".parquet": _CATALOG, ".zip": _ARCHIVE, ".tar": _ARCHIVE, ".gz": _ARCHIVE}


def find_scenes(inputs: Sequence[str], kind: str | Product = "auto", labels: str | None = None) -> FoundScenes:
    """The scenes that inputs hold.

    Args:
        inputs: as for `resolve_inputs`; also folders and files of any product.
        kind: the product that they are, or its name; "auto" asks all of them.
        labels: a file with the labels of all scenes, or a folder with a raster for each, named as the scene.

    Raises:
        ConfigurationError: an input does not exist, holds nothing, or is not laid out as `kind` says; or there is no
            such kind.
    """
    products = products_of(kind)
    asked = kind != "auto"
    found = FoundScenes()
    files: list[str] = []
    for text in inputs:
        path = str(Path(text).expanduser()) if "://" not in text else text
        if Path(path).is_dir():
            _search(os.path.abspath(path), products, asked, found)  # noqa: PTH100  # links are left as they are
        elif (packed := recognise_input(path, products)) is not None:
            _add_package(*packed, found)
        else:
            if (advice := _NO_RASTER.get(Path(path).suffix.lower())) is not None:
                known = ", ".join(PRODUCTS.names)
                raise ConfigurationError(f"{text}: {advice.format(known)}", path=text)
            files += [_absolute(one) for one in resolve_inputs([text])]
    if files:
        found.add(_arranged(LooseFiles(None, list(dict.fromkeys(files))), products, asked))
    if labels is not None:
        _label(found, labels)
    if not found.sources and not found.faulty:
        names = ", ".join(product.name for product in products)
        raise ConfigurationError(
            f"{', '.join(inputs)}: nothing laid out as kind={names!r} was found; kind='auto' looks for everything"
            if asked
            else f"{', '.join(inputs)}: no scene found (looked for {', '.join(RASTER_EXTENSIONS)}, and for {names})"
        )
    _drop_repeated(found)
    return found


def products_of(kind: str | Product) -> list[Product]:
    """The products that a kind stands for, in the order in which they are asked.

    Raises:
        ConfigurationError: there is none of this name, or that of another package cannot be imported or is none.
    """
    if isinstance(kind, Product):
        return [kind]
    found = []
    for name in PRODUCTS.names if kind == "auto" else [kind]:
        product = PRODUCTS.named(name)
        if isinstance(product, type) and issubclass(product, Product):
            product = product()
        if not isinstance(product, Product):
            raise ConfigurationError(f"the product '{name}' is {product!r}, which is no geoaug.data.Product")
        found.append(product)
    return found


def recognise_input(text: str, products: Sequence[Product] | None = None) -> tuple[Product, Package] | None:
    """The package that a file or address is by its name (a zipped product, STAC), and of which product; None for
    plain rasters, folders and all else."""
    for product in products_of("auto") if products is None else products:
        if (package := product.recognise_input(text)) is not None:
            return product, package
    return None


def _search(folder: str, products: Sequence[Product], asked: bool, found: FoundScenes) -> None:
    """Add the scenes below a folder: its packages first, then what the rest is laid out as."""
    rasters: list[str] = []
    pictures: list[str] = []
    others: list[str] = []
    before = len(found.sources)
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in names if not name.startswith("."))
        for product in products:
            for package in product.recognise(root, names):
                _add_package(product, package, found)
                taken = set(names if package.files is None else package.files)
                names = [name for name in names if name not in taken]
                if package.files is None:
                    folders.clear()
        for name in names:
            lower = name.lower()
            kept = (
                rasters
                if lower.endswith(RASTER_EXTENSIONS)
                else pictures
                if lower.endswith(PICTURE_EXTENSIONS)
                else others
            )
            kept.append(os.path.join(root, name))  # noqa: PTH118  # a hundred thousand times
    if rasters or pictures:
        loose = LooseFiles(folder, rasters, pictures, others, len(found.sources) > before)
        found.add(_arranged(loose, products, asked))


def _arranged(files: LooseFiles, products: Sequence[Product], asked: bool) -> FoundScenes:
    """What loose files are to the first product that they are laid out as."""
    for product in products:
        if (found := product.arrange(files, asked=asked)) is not None:
            return found
    if files.folder is None:
        kind = products[0].name
        raise ConfigurationError(
            f"{files.rasters[0]}: kind={kind!r} is for folders; name the folder", path=files.rasters[0], argument="kind"
        )
    return FoundScenes()


def _add_package(product: Product, package: Package, found: FoundScenes) -> None:
    try:
        found.add(product.scenes(package))
    except RasterError as error:
        found.faulty[package.path] = str(error)


def _drop_repeated(found: FoundScenes) -> None:
    """Leave each scene once: a folder may be named twice, or a file with its folder, and a product be zipped, too."""
    by_path = {source.path: source for source in found.sources}
    by_name: dict[str, SceneSource] = {}
    for source in by_path.values():
        if (other := by_name.setdefault(source.name, source)) is not source:
            found.faulty[source.path] = f"{source.path}: is the same scene as {other.path}; keep one of them"
    found.sources = list(by_name.values())


def _label(found: FoundScenes, labels: str) -> None:
    """Give scenes their labels: all of them one file, or each the raster of its name in a folder."""
    path = Path(labels).expanduser().absolute()
    if path.is_dir():
        masks = sorted(str(file) for file in path.rglob("*") if file.suffix.lower() in (*RASTER_EXTENSIONS, ".png"))
        if not masks:
            raise ConfigurationError(f"{labels}: no raster of labels in this folder", path=labels)
        # A folder of labels inside that of the scenes was taken for scenes.
        sources = [source for source in found.sources if source.path not in set(masks)]
        simple = [source for source in sources if isinstance(source, RasterSource | BandsSource)]
        if len(simple) < len(sources):
            raise ConfigurationError("labels by name are for rasters and files of bands; give products one label file")
        labelled, alone = with_labels(simple, masks)
        found.sources = list(labelled)
        found.faulty |= alone
        return
    if not path.exists():
        raise ConfigurationError(f"{labels}: no such file or folder of labels", path=labels)
    found.sources = [_labelled(source, str(path)) for source in found.sources]


def _labelled(source: SceneSource, mask_path: str) -> SceneSource:
    if not is_dataclass(source) or "mask_path" not in {field.name for field in fields(source)}:
        raise ConfigurationError(f"{source.path}: scenes of kind {source.kind} are indexed without labels")
    return replace(source, mask_path=mask_path)


def _absolute(path: str) -> str:
    return os.path.abspath(path) if os.path.exists(path) else path  # noqa: PTH100, PTH110

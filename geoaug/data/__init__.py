"""Reading satellite imagery: inputs, scenes, windows and labels.

The names below are imported on first use, so that rasterio and geopandas are loaded only by what needs them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoaug.data.catalog.catalog import Catalog
    from geoaug.data.catalog.index import index_files, index_folder, index_stac
    from geoaug.data.catalog.inputs import SceneInput, Scenes, open_scene, open_scenes
    from geoaug.data.catalog.products.product import FoundScenes, LooseFiles, Package, Product, ReadScene, SceneSource
    from geoaug.data.datamodule import LoadingOptions, TileDataModule
    from geoaug.data.labels.label_source import LabelSource
    from geoaug.data.labels.opening import open_labels
    from geoaug.data.labels.raster import RasterLabels
    from geoaug.data.labels.vector import VectorLabels
    from geoaug.data.loading.dataset import TileDataset, collate_tiles
    from geoaug.data.loading.loader import TileLoader
    from geoaug.data.loading.options import TileOptions
    from geoaug.data.pictures.batch_picture import draw_batch
    from geoaug.data.pictures.catalog_picture import draw_catalog
    from geoaug.data.raster.grid import Grid
    from geoaug.data.raster.headers import HeaderOptions
    from geoaug.data.raster.identify import Identification, identify_sensor
    from geoaug.data.raster.inputs import RASTER_EXTENSIONS, resolve_inputs, scene_ids
    from geoaug.data.raster.record import BandFile, QualityLayer, SceneRecord, TileRef
    from geoaug.data.raster.window import Window, tile_grid
    from geoaug.data.sampling.balanced_sampler import BalancedTileSampler
    from geoaug.data.sampling.coverage import Coverage
    from geoaug.data.sampling.grid_sampler import GridTileSampler
    from geoaug.data.sampling.leaks import LeakError, check_leaks
    from geoaug.data.sampling.locality_sampler import LocalityTileSampler
    from geoaug.data.sampling.random_sampler import RandomTileSampler, WeightedTileSampler
    from geoaug.data.sampling.sampler import TileDraws, TileSampler
    from geoaug.data.sampling.splits import (
        split_by_attribute,
        split_by_blocks,
        split_by_chance,
        split_by_date,
        split_by_folder,
        split_into_folds,
    )
    from geoaug.data.sampling.survey import StatisticsPlan, Survey, catalog_statistics, survey_catalog
    from geoaug.data.sampling.tile_source import CatalogTiles
    from geoaug.statistics import Statistics

__all__ = [
    "RASTER_EXTENSIONS",
    "BalancedTileSampler",
    "BandFile",
    "Catalog",
    "CatalogTiles",
    "Coverage",
    "FoundScenes",
    "Grid",
    "GridTileSampler",
    "HeaderOptions",
    "Identification",
    "LabelSource",
    "LeakError",
    "LoadingOptions",
    "LocalityTileSampler",
    "LooseFiles",
    "Package",
    "Product",
    "QualityLayer",
    "RandomTileSampler",
    "RasterLabels",
    "ReadScene",
    "SceneInput",
    "SceneRecord",
    "SceneSource",
    "Scenes",
    "Statistics",
    "StatisticsPlan",
    "Survey",
    "TileDataModule",
    "TileDataset",
    "TileDraws",
    "TileLoader",
    "TileOptions",
    "TileRef",
    "TileSampler",
    "VectorLabels",
    "WeightedTileSampler",
    "Window",
    "catalog_statistics",
    "check_leaks",
    "collate_tiles",
    "draw_batch",
    "draw_catalog",
    "identify_sensor",
    "index_files",
    "index_folder",
    "index_stac",
    "open_labels",
    "open_scene",
    "open_scenes",
    "resolve_inputs",
    "scene_ids",
    "split_by_attribute",
    "split_by_blocks",
    "split_by_chance",
    "split_by_date",
    "split_by_folder",
    "split_into_folds",
    "survey_catalog",
    "tile_grid",
]

_HOMES = {
    "Coverage": "sampling.coverage",
    "LoadingOptions": "datamodule",
    "FoundScenes": "catalog.products.product",
    "HeaderOptions": "raster.headers",
    "LooseFiles": "catalog.products.product",
    "Package": "catalog.products.product",
    "Product": "catalog.products.product",
    "ReadScene": "catalog.products.product",
    "SceneSource": "catalog.products.product",
    "TileDraws": "sampling.sampler",
    "TileSampler": "sampling.sampler",
    "CatalogTiles": "sampling.tile_source",
    "TileDataModule": "datamodule",
    "Statistics": "geoaug.statistics",
    "StatisticsPlan": "sampling.survey",
    "Survey": "sampling.survey",
    "catalog_statistics": "sampling.survey",
    "survey_catalog": "sampling.survey",
    "draw_batch": "pictures.batch_picture",
    "draw_catalog": "pictures.catalog_picture",
    "Catalog": "catalog.catalog",
    "TileDataset": "loading.dataset",
    "collate_tiles": "loading.dataset",
    "TileLoader": "loading.loader",
    "TileOptions": "loading.options",
    "BandFile": "raster.record",
    "Grid": "raster.grid",
    "QualityLayer": "raster.record",
    "SceneRecord": "raster.record",
    "TileRef": "raster.record",
    "BalancedTileSampler": "sampling.balanced_sampler",
    "GridTileSampler": "sampling.grid_sampler",
    "LocalityTileSampler": "sampling.locality_sampler",
    "RandomTileSampler": "sampling.random_sampler",
    "WeightedTileSampler": "sampling.random_sampler",
    "Identification": "raster.identify",
    "identify_sensor": "raster.identify",
    "index_files": "catalog.index",
    "index_folder": "catalog.index",
    "index_stac": "catalog.index",
    "RASTER_EXTENSIONS": "raster.inputs",
    "resolve_inputs": "raster.inputs",
    "scene_ids": "raster.inputs",
    "LabelSource": "labels.label_source",
    "RasterLabels": "labels.raster",
    "VectorLabels": "labels.vector",
    "open_labels": "labels.opening",
    "SceneInput": "catalog.inputs",
    "Scenes": "catalog.inputs",
    "open_scene": "catalog.inputs",
    "open_scenes": "catalog.inputs",
    "LeakError": "sampling.leaks",
    "check_leaks": "sampling.leaks",
    "split_by_attribute": "sampling.splits",
    "split_by_blocks": "sampling.splits",
    "split_by_chance": "sampling.splits",
    "split_by_date": "sampling.splits",
    "split_by_folder": "sampling.splits",
    "split_into_folds": "sampling.splits",
    "Window": "raster.window",
    "tile_grid": "raster.window",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geoaug.data' has no attribute {name!r}")
    home = _HOMES[name]
    module = home if home.startswith("geoaug.") else f"geoaug.data.{home}"
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

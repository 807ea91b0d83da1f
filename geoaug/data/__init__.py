"""Reading satellite imagery: inputs, scenes, windows and labels.

The names below are imported on first use, so that rasterio and geopandas are loaded only by what needs them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoaug.data.batch_picture import draw_batch
    from geoaug.data.catalog import Catalog
    from geoaug.data.catalog_picture import draw_catalog
    from geoaug.data.coverage import Coverage
    from geoaug.data.datamodule import TileDataModule
    from geoaug.data.dataset import TileDataset, collate_tiles
    from geoaug.data.identify import Identification, identify_sensor
    from geoaug.data.indexing import index_files, index_folder
    from geoaug.data.inputs import RASTER_EXTENSIONS, resolve_inputs, scene_ids
    from geoaug.data.labels import LabelSource, open_labels
    from geoaug.data.leaks import LeakError, check_leaks
    from geoaug.data.loader import TileLoader
    from geoaug.data.raster_labels import RasterLabels
    from geoaug.data.records import BandFile, Grid, QualityLayer, SceneRecord, TileRef
    from geoaug.data.samplers import (
        BalancedTileSampler,
        GridTileSampler,
        LocalityTileSampler,
        RandomTileSampler,
        WeightedTileSampler,
    )
    from geoaug.data.scene import Scene, SceneReader, Tile, open_scene
    from geoaug.data.splits import (
        split_by_attribute,
        split_by_blocks,
        split_by_chance,
        split_by_date,
        split_by_folder,
        split_into_folds,
    )
    from geoaug.data.stac import index_stac
    from geoaug.data.survey import StatisticsPlan, Survey, catalog_statistics, survey_catalog
    from geoaug.data.vector_labels import VectorLabels
    from geoaug.data.windows import Window, tile_grid
    from geoaug.statistics import Statistics

__all__ = [
    "RASTER_EXTENSIONS",
    "BalancedTileSampler",
    "BandFile",
    "Catalog",
    "Coverage",
    "Grid",
    "GridTileSampler",
    "Identification",
    "LabelSource",
    "LeakError",
    "LocalityTileSampler",
    "QualityLayer",
    "RandomTileSampler",
    "RasterLabels",
    "Scene",
    "SceneReader",
    "SceneRecord",
    "Statistics",
    "StatisticsPlan",
    "Survey",
    "Tile",
    "TileDataModule",
    "TileDataset",
    "TileLoader",
    "TileRef",
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
    "Coverage": "coverage",
    "TileDataModule": "datamodule",
    "StatisticsPlan": "survey",
    "Survey": "survey",
    "catalog_statistics": "survey",
    "survey_catalog": "survey",
    "draw_batch": "batch_picture",
    "draw_catalog": "catalog_picture",
    "Statistics": "stats",
    "Catalog": "catalog",
    "TileDataset": "dataset",
    "collate_tiles": "dataset",
    "TileLoader": "loader",
    "BandFile": "records",
    "Grid": "records",
    "QualityLayer": "records",
    "SceneRecord": "records",
    "TileRef": "records",
    "BalancedTileSampler": "samplers",
    "GridTileSampler": "samplers",
    "LocalityTileSampler": "samplers",
    "RandomTileSampler": "samplers",
    "WeightedTileSampler": "samplers",
    "Identification": "identify",
    "identify_sensor": "identify",
    "index_files": "indexing",
    "index_folder": "indexing",
    "index_stac": "stac",
    "RASTER_EXTENSIONS": "inputs",
    "resolve_inputs": "inputs",
    "scene_ids": "inputs",
    "LabelSource": "labels",
    "RasterLabels": "raster_labels",
    "VectorLabels": "vector_labels",
    "open_labels": "labels",
    "Scene": "scene",
    "SceneReader": "scene",
    "Tile": "scene",
    "open_scene": "scene",
    "LeakError": "leaks",
    "check_leaks": "leaks",
    "split_by_attribute": "splits",
    "split_by_blocks": "splits",
    "split_by_chance": "splits",
    "split_by_date": "splits",
    "split_by_folder": "splits",
    "split_into_folds": "splits",
    "Window": "windows",
    "tile_grid": "windows",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geoaug.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"geoaug.data.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""Reading satellite imagery: inputs, scenes, windows and labels.

The names below are imported on first use, so that rasterio and geopandas are loaded only by what needs them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoaug.data.catalogs.catalog import Catalog
    from geoaug.data.catalogs.indexing import index_files, index_folder
    from geoaug.data.catalogs.stac import index_stac
    from geoaug.data.labels.label_source import LabelSource, open_labels
    from geoaug.data.labels.raster_labels import RasterLabels
    from geoaug.data.labels.vector_labels import VectorLabels
    from geoaug.data.pictures.batch_picture import draw_batch
    from geoaug.data.pictures.catalog_picture import draw_catalog
    from geoaug.data.samplers import (
        BalancedTileSampler,
        GridTileSampler,
        LocalityTileSampler,
        RandomTileSampler,
        WeightedTileSampler,
    )
    from geoaug.data.scenes.identify import Identification, identify_sensor
    from geoaug.data.scenes.inputs import RASTER_EXTENSIONS, resolve_inputs, scene_ids
    from geoaug.data.scenes.records import BandFile, Grid, QualityLayer, SceneRecord, TileRef
    from geoaug.data.scenes.scene import Scene, SceneReader, Tile, open_scene
    from geoaug.data.scenes.windows import Window, tile_grid
    from geoaug.data.splits.leaks import LeakError, check_leaks
    from geoaug.data.splits.splitting import (
        split_by_attribute,
        split_by_blocks,
        split_by_chance,
        split_by_date,
        split_by_folder,
        split_into_folds,
    )
    from geoaug.data.surveys.coverage import Coverage
    from geoaug.data.surveys.survey import StatisticsPlan, Survey, catalog_statistics, survey_catalog
    from geoaug.data.tiles.dataset import TileDataset, collate_tiles
    from geoaug.data.tiles.loader import TileLoader
    from geoaug.data.training.datamodule import TileDataModule
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
    "Coverage": "surveys.coverage",
    "TileDataModule": "training.datamodule",
    "StatisticsPlan": "surveys.survey",
    "Survey": "surveys.survey",
    "catalog_statistics": "surveys.survey",
    "survey_catalog": "surveys.survey",
    "draw_batch": "pictures.batch_picture",
    "draw_catalog": "pictures.catalog_picture",
    "Statistics": "surveys.stats",
    "Catalog": "catalogs.catalog",
    "TileDataset": "tiles.dataset",
    "collate_tiles": "tiles.dataset",
    "TileLoader": "tiles.loader",
    "BandFile": "scenes.records",
    "Grid": "scenes.records",
    "QualityLayer": "scenes.records",
    "SceneRecord": "scenes.records",
    "TileRef": "scenes.records",
    "BalancedTileSampler": "samplers",
    "GridTileSampler": "samplers",
    "LocalityTileSampler": "samplers",
    "RandomTileSampler": "samplers",
    "WeightedTileSampler": "samplers",
    "Identification": "scenes.identify",
    "identify_sensor": "scenes.identify",
    "index_files": "catalogs.indexing",
    "index_folder": "catalogs.indexing",
    "index_stac": "catalogs.stac",
    "RASTER_EXTENSIONS": "scenes.inputs",
    "resolve_inputs": "scenes.inputs",
    "scene_ids": "scenes.inputs",
    "LabelSource": "labels.label_source",
    "RasterLabels": "labels.raster_labels",
    "VectorLabels": "labels.vector_labels",
    "open_labels": "labels.label_source",
    "Scene": "scenes.scene",
    "SceneReader": "scenes.scene",
    "Tile": "scenes.scene",
    "open_scene": "scenes.scene",
    "LeakError": "splits.leaks",
    "check_leaks": "splits.leaks",
    "split_by_attribute": "splits.splitting",
    "split_by_blocks": "splits.splitting",
    "split_by_chance": "splits.splitting",
    "split_by_date": "splits.splitting",
    "split_by_folder": "splits.splitting",
    "split_into_folds": "splits.splitting",
    "Window": "scenes.windows",
    "tile_grid": "scenes.windows",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geoaug.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"geoaug.data.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

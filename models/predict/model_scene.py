"""What a model is given of a scene: its bands by name, on the grid of its map, as training would have read them.

Whatever names a scene becomes a record (`geoaug.data.catalog.inputs`), and ends as the view that training reads tiles
by (`geoaug.data.raster.view`). Bands of other resolutions, and scenes that were brought to the model's ground sampling
distance in training, are warped inside the read. Windows are read by `scene`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from geoaug.data.catalog.inputs import open_scene
from geoaug.data.raster.grid import Grid, target_grid
from geoaug.data.raster.headers import stated_nodata, with_nodata
from geoaug.data.raster.record import SceneRecord
from geoaug.data.raster.view import SceneView, scene_view
from geoaug.errors import ConfigurationError
from geoaug.models.networks.bands import check_same_bands
from geoaug.models.networks.card import ModelCard
from geoaug.models.predict.trained_gsd import check_gsd, is_other_gsd
from geoaug.sensors import Sensor

__all__ = ["ModelScene", "model_scene"]


@dataclass(frozen=True, slots=True)
class ModelScene:
    """A scene as a model is given it.

    Attributes:
        id: that its maps are called after.
        sensor: with the bands of the model, scaled as the files are.
        view: of the files, on the grid of the map.
    """

    id: str
    sensor: Sensor
    view: SceneView

    @property
    def grid(self) -> Grid:
        """Of the map."""
        return self.view.grid


def model_scene(
    card: ModelCard,
    scene: str | Path | SceneRecord,
    *,
    sensor: Sensor | str | None = None,
    name: str | None = None,
    resample: bool = False,
    ignore_gsd: bool = False,
    nodata: float | str | None = None,
) -> ModelScene:
    """A scene as the model of a card is given it; see `predict_scene` for the arguments.

    Raises:
        ConfigurationError: a band that the scene lacks, another ground sampling distance, or not one scene.
        RasterError: a header cannot be read.
    """
    if isinstance(scene, SceneRecord) and sensor is not None:
        raise ConfigurationError("sensor: said when files are indexed, and this record is made", argument="sensor")
    wanted = list(card.sensor.band_names)
    try:
        if isinstance(scene, SceneRecord):
            record = with_nodata(scene.select(wanted), stated_nodata(nodata))
            found = record.full_sensor()
        else:
            opened = open_scene(scene, sensor=sensor, bands=wanted, nodata=nodata)
            record, found = opened.record, opened.sensor
    except ConfigurationError as error:
        if error.argument == "nodata":
            raise
        raise ConfigurationError(
            f"{error}. The model takes {' '.join(wanted)} of '{card.sensor.name}': where the file has "
            "them and does not say so, name the sensor, or name the bands in the file",
            path=error.path,
        ) from error
    check_same_bands(card.sensor, found, record.path)
    view = scene_view(record, _map_grid(card, record, resample=resample, ignore_gsd=ignore_gsd))
    return ModelScene(name or record.id, found, view)


def _map_grid(card: ModelCard, record: SceneRecord, *, resample: bool, ignore_gsd: bool) -> Grid:
    """The grid that tiles of training would have been cut from: that of the finest band, or one at the model's gsd."""
    own, trained = record.grid, card.gsd_m
    if ignore_gsd or trained is None or own.gsd_m is None:
        if resample and own.gsd_m is None and trained is not None:
            raise ConfigurationError(f"{record.path}: how wide its pixels are is not known, so it cannot be resampled")
        return own
    if not is_other_gsd(own.gsd_m, trained):
        return own
    if not resample and not _brought_in_training(card) and not _lies_between(record, trained):
        check_gsd(own.gsd_m, trained, record.path, "resample the scene (resample, --resample)")
    return target_grid(own, None, trained)


def _brought_in_training(card: ModelCard) -> bool:
    """Whether the training itself brought its scenes to a ground sampling distance."""
    data = dict(card.training.get("configuration") or {}).get("data") or {}
    return data.get("gsd_m") is not None


def _lies_between(record: SceneRecord, gsd_m: float) -> bool:
    """Whether the model's pixels are among those of bands of several resolutions, some of which are warped anyway."""
    widths = [band.grid.gsd_m or 0.0 for band in record.bands]
    return min(widths) < gsd_m and (max(widths) > gsd_m or not is_other_gsd(max(widths), gsd_m))

"""Statistics that a training measured once: where they are kept, and whether what is there still fits."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoaug.data.catalogs.catalog import Catalog
from geoaug.errors import ConfigurationError
from geoaug.sensors import Sensor
from geoaug.statistics import Statistics


def statistics_path(catalog_file: Path, train: Catalog, read: Mapping[str, Any]) -> Path:
    """The file of the statistics, beside the catalog's and named by what they are of.

    Args:
        catalog_file: where the catalog is saved.
        train: the scenes to learn from.
        read: the options that they are read with, and that statistics depend on.
    """
    digest = hashlib.blake2b(digest_size=6)
    for name in ("id", "size", "mtime_ns", "region"):
        if name in train.table.column_names:
            digest.update(repr(train.table.column(name).to_pylist()).encode())
    digest.update(json.dumps({name: str(value) for name, value in read.items()}).encode())
    return catalog_file.with_name(f"{catalog_file.stem}.train-{digest.hexdigest()}.stats.yaml")


def open_statistics(path: Path, sensor: Sensor) -> Statistics:
    """Statistics that were measured before, of these bands scaled as they are.

    Raises:
        ConfigurationError: they are of another sensor, of other bands or in another scale.
    """
    found = Statistics.open(path)
    try:
        if found.sensor != sensor.name:
            raise ConfigurationError(f"the statistics are of {found.sensor}, and the data is of {sensor.name}")
        found.normalization(sensor)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{path}: does not fit the training data ({error}): name another statistics_file, in which they are "
            "measured anew, or remove this one"
        ) from error
    return found

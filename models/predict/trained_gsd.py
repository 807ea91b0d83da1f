"""The ground sampling distance that a model was trained at, held to."""

from __future__ import annotations

from geoaug.data.loading.dataset import TileDataset
from geoaug.errors import ConfigurationError

__all__ = ["check_gsd", "is_other_gsd", "scene_gsds", "trained_gsd"]

# A ground sampling distance this much off is another scale of things.
_TOLERANCE = 0.1


def scene_gsds(dataset: TileDataset, resized_to: int | None = None) -> list[float | None]:
    """How wide a pixel of each scene is as the network is given it, metres; None where it is not known.

    Args:
        dataset: of tiles: their pixels are those of the finest band that is read, which need not be the finest of the
            scene.
        resized_to: the side that tiles are brought to; None where they keep their scale.
    """
    factor = 1.0 if resized_to is None else max(dataset.size) / resized_to
    areas = zip(dataset.grids.pixel_area_m2.tolist(), dataset.catalog.column("crs"), strict=True)
    return [None if crs is None else factor * area**0.5 for area, crs in areas]


def trained_gsd(dataset: TileDataset, resized_to: int | None = None) -> float | None:
    """The median of `scene_gsds`."""
    known = sorted(gsd for gsd in scene_gsds(dataset, resized_to) if gsd is not None)
    return known[len(known) // 2] if known else None


def is_other_gsd(gsd_m: float, trained_m: float) -> bool:
    """Whether pixels are of another width than in the training."""
    return abs(gsd_m / trained_m - 1) > _TOLERANCE


def check_gsd(gsd_m: float | None, trained_m: float | None, where: str, remedy: str) -> None:
    """Raise `ConfigurationError` where pixels are of another width than in the training; what is not known is let pass.

    Args:
        gsd_m: how wide they are.
        trained_m: how wide they were.
        where: they are, for the message.
        remedy: what to do, besides predicting all the same.
    """
    if gsd_m is not None and trained_m is not None and is_other_gsd(gsd_m, trained_m):
        raise ConfigurationError(
            f"{where}: pixels are {gsd_m:.3g} m wide, and the model was trained at {trained_m:.3g} m: {remedy}, or "
            "take them as they are (ignore_gsd, --ignore-gsd)"
        )

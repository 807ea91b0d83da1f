"""The ground sampling distance that a model was trained at, held to."""

from __future__ import annotations

from geoaug.errors import ConfigurationError

__all__ = ["check_gsd", "is_other_gsd"]

# A ground sampling distance this much off is another scale of things.
_TOLERANCE = 0.1


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

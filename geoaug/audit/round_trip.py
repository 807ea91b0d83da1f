"""Labels taken to an augmented tile and back: how many still say the same of the ground.

The way back is by the geotransforms of both tiles, and not by what moved the pixels: a label that went elsewhere than
the geotransform says is found out.
"""

import numpy as np
from affine import Affine

__all__ = ["label_agreement"]


def label_agreement(
    labels: np.ndarray,
    transform: Affine,
    changed: np.ndarray,
    changed_transform: Affine,
    ignore_index: int,
) -> tuple[int, int, int]:
    """Compare the labels of a tile with those of its augmented copy at the same places on the ground.

    Args:
        labels: (H, W) of the tile.
        transform: its geotransform.
        changed: (H, W) of the copy.
        changed_transform: its geotransform.
        ignore_index: label of pixels without one.

    Returns:
        Pixels of the tile that have a label and lie in the copy; of these, those that have one there; of these, those
        that have the same one.
    """
    height, width = labels.shape
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = (~changed_transform * transform) * (columns, rows)
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    inside = (row >= 0) & (row < changed.shape[0]) & (column >= 0) & (column < changed.shape[1])
    inside &= labels != ignore_index
    there = changed[row[inside], column[inside]]
    kept = there != ignore_index
    return int(inside.sum()), int(kept.sum()), int((there[kept] == labels[inside][kept]).sum())

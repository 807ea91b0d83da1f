"""What of a batch follows its pixels and is none of them: geotransforms, boxes, the azimuths of sun and sensor."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geoaug.augment import matrices
from geoaug.augment.plan import Plan
from geoaug.errors import ConfigurationError


def moved_with(batch: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """What follows the pixels: geotransform, boxes, the sun's azimuth."""
    matrix = plan.matrix
    moved: dict[str, Any] = {}
    transform = batch.get("transform")
    if transform is not None:
        wanted = isinstance(transform, Tensor) and transform.dtype == torch.float64
        if not wanted or transform.shape != (len(plan.key), 6):
            raise ConfigurationError(
                "'transform' is a float64 tensor (B, 6): a b c d e f of each tile (float32 loses metres)"
            )
        new = matrices.transform_geotransforms(transform.to(matrix), matrix)
        # A bent tile has no geotransform; a wrong one would be worse than none.
        moved["transform"] = new if plan.keeps_place else torch.full_like(new, torch.nan)
    boxes = batch.get("bbox_xyxy")
    if boxes is not None:
        if len(boxes) != len(plan.key) or any(box.dim() != 2 or box.shape[1] != 4 for box in boxes):
            raise ConfigurationError(f"'bbox_xyxy' is a list of {len(plan.key)} tensors (N, 4), one for each sample")
        if not plan.keeps_place:
            raise ConfigurationError("boxes cannot follow an operation that bends the tile")
        moved["bbox_xyxy"] = matrices.transform_boxes(list(boxes), matrix, plan.size)
    for name in ("sun_azimuth", "view_azimuth"):
        if batch.get(name) is not None:
            azimuth = torch.as_tensor(batch[name], dtype=torch.float32, device=matrix.device)
            moved[name] = matrices.transform_azimuths(azimuth, matrix)
    return moved

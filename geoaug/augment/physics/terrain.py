"""Light on slopes: how a tile with another sun differs from itself, pixel by pixel, from its elevations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from geoaug.augment.planning.maps import Surroundings, TileMap
from geoaug.augment.planning.matrices import Size

_MOST = 3.0


@dataclass(frozen=True, slots=True)
class TerrainLight(TileMap):
    """Relative change of reflectance under another sun, per band, by the C-correction.

    `L = L_flat * (cos i + C) / (cos z + C)` (Teillet, Guindon and Goodenough, 1982, Canadian Journal of Remote Sensing
    8), i the angle between sun and surface normal, z the sun's zenith angle, C the diffuse over the direct light. The
    map is the quotient of this under the two suns, less 1: 0 on flat ground, and 0 where elevations are unknown. It is
    kept between a third and three: what lay in full shade holds too little light to be lit.

    Attributes:
        before: unit vectors to the sun of the image: right, down, up.
        after: those to the other sun.
        diffuse: C of each band.
        gsd_m: metres to a pixel.
    """

    before: Float[Tensor, "r 3"]
    after: Float[Tensor, "r 3"]
    diffuse: Float[Tensor, "r c"]
    gsd_m: Float[Tensor, " r"]

    def make(self, size: Size, surroundings: Surroundings) -> Float[Tensor, "r c h w"]:
        dem = surroundings.dem
        if dem is None:
            return torch.zeros(*self.diffuse.shape, 1, 1, device=self.diffuse.device)
        normal = surface_normals(dem, self.gsd_m)
        change = self._lit(normal, self.after) / self._lit(normal, self.before)
        return torch.where(torch.isfinite(change), change.clamp(1 / _MOST, _MOST) - 1, 0.0).float()

    def _lit(self, normal: Float[Tensor, "r 3 h w"], sun: Float[Tensor, "r 3"]) -> Float[Tensor, "r c h w"]:
        sun, diffuse = sun.to(normal), self.diffuse.to(normal)[..., None, None]
        facing = (normal * sun[..., None, None]).sum(1, keepdim=True).clamp_min(0)
        return (facing + diffuse) / (sun[:, 2, None, None, None] + diffuse)


def surface_normals(dem: Float[Tensor, "r 1 h w"], gsd_m: Float[Tensor, " r"]) -> Float[Tensor, "r 3 h w"]:
    """Unit vectors (right, down, up) from central differences; NaN beside unknown elevations.

    Args:
        dem: elevation in metres.
        gsd_m: metres to a pixel.
    """
    padded = F.pad(dem, (1, 1, 1, 1), mode="replicate")
    # At the tile's edge the difference spans one pixel.
    span_x, span_y = (_spans(count, dem.device) for count in (dem.shape[-1], dem.shape[-2]))
    metres = gsd_m.to(dem)[:, None, None, None]
    slope_x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / (span_x * metres)
    slope_y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / (span_y[:, None] * metres)
    normal = torch.cat((-slope_x, -slope_y, torch.ones_like(slope_x)), dim=1)
    return normal / normal.square().sum(1, keepdim=True).sqrt()


def _spans(count: int, device: torch.device) -> Float[Tensor, " n"]:
    pixel = torch.arange(count, device=device)
    return ((pixel + 1).clamp_max(count - 1) - (pixel - 1).clamp_min(0)).clamp_min(1).float()

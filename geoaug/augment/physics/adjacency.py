"""The surroundings of a pixel as haze mixes them into it: diffuse light comes from the ground beside what is looked at.

Of the light that comes up to the sensor after scattering, a share F(r) left the ground within r of the pixel (Tanre,
Herman and Deschamps, 1981, Applied Optics 20; Vermote et al., 1997, IEEE Transactions on Geoscience and Remote Sensing
35): hundreds of metres for aerosol, kilometres for molecules, which lie higher. So haze takes away the contrast of fine
detail, and leaves that of large fields.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from geoaug.augment.physics.aerosols import Aerosol
from geoaug.augment.physics.air import Layer, rayleigh_optical_depth
from geoaug.augment.planning.maps import Surroundings, TileMap
from geoaug.augment.planning.matrices import Size
from geoaug.augment.planning.terms import Terms
from geoaug.small_arrays import Numbers, at_least, several_by_numpy

# F(r) = 1 - sum of c exp(-a r), r in km, for aerosol and for molecules seen from space (6S, after Tanre et al., 1981).
ENVIRONMENT = (((0.448, 0.27), (0.552, 2.83)), ((0.930, 0.080), (0.070, 1.100)))

# The ground at which the denominator of what bounces between air and ground is taken.
_USUAL_GROUND = 0.15


@dataclass(frozen=True, slots=True)
class Background(TileMap):
    """The surroundings of each pixel, weighted by F(r), band by band: from the coarse means of the tile's own input.

    Beyond the tile the surroundings go on as they are near the pixel for aerosol, and as the mean of the tile for
    molecules, which look at tens of kilometres. Maps of earlier segments (shadows, stripes) are not seen in it: their
    terms are.

    Attributes:
        gsd_m: metres to a pixel.
        aerosol: share of the diffuse light that aerosol scattered; molecules the rest.
        bend: of `M + bend (M - path)^2`, which the map is where M are the surroundings.
        path: likewise.
        gain: from the stored values of the input to the values that the segment works on.
        offset: likewise.
    """

    looks_at_pixels: ClassVar[bool] = True

    gsd_m: Float[Tensor, " r"]
    aerosol: Float[Tensor, "r c"]
    bend: Float[Tensor, "r c"]
    path: Float[Tensor, "r c"]
    gain: Float[Tensor, "r c"]
    offset: Float[Tensor, "r c"]

    def preceded_by(self, terms: Terms) -> Background:
        """The surroundings of pixels that these terms have changed before."""
        return replace(self, gain=self.gain * terms.gain, offset=self.gain * terms.offset + self.offset)

    def make(self, size: Size, surroundings: Surroundings) -> Float[Tensor, "r c h w"]:
        cells = self.cells(size, surroundings)
        return F.interpolate(cells, size=tuple(size), mode="bilinear", align_corners=False)

    def cells(self, size: Size, surroundings: Surroundings) -> Float[Tensor, "r c n m"]:
        """The surroundings at the middles of coarse cells."""
        means, weights = surroundings.coarse()
        rows, bands, down, across = means.shape
        # In float64, for the order of sums depends on the batch: what rounding to float32 hides.
        reach = _reach(self.gsd_m.double(), size, down, across)
        known = weights.double().flatten(2).transpose(1, 2)
        values = torch.cat((means.double().flatten(2).transpose(1, 2) * known, known), dim=2)
        # One product for aerosol, one for molecules.
        sums = torch.matmul(reach, values[:, None]).flip(2)
        inside = reach.sum(-1, keepdim=True).flip(2).clamp_max(1)
        total = values.sum(1)
        mean = (total[:, :-1] / total[:, -1:].clamp_min(1e-6))[:, None, None]
        near = sums[..., -1:] > 1e-6
        local = torch.where(near, sums[..., :-1] / sums[..., -1:].clamp_min(1e-6), mean)
        by_aerosol, by_molecules = local[:, 0], (inside * local + (1 - inside) * mean)[:, 1]
        share, gain, offset, bend, path = (
            part.double()[:, None] for part in (self.aerosol, self.gain, self.offset, self.bend, self.path)
        )
        moved = (by_molecules + share * (by_aerosol - by_molecules)) * gain + offset
        moved = moved + bend * (moved - path).square()
        return moved.float().transpose(1, 2).reshape(rows, bands, down, across)


def environment(distance_km: float, aerosol: bool) -> float:
    """F(r): share of the diffuse light that left the ground within a distance."""
    return 1 - sum(share * math.exp(-rate * distance_km) for share, rate in ENVIRONMENT[0 if aerosol else 1])


def aerosol_share(aerosol: Aerosol, wavelength_nm: Float[Tensor, " c"]) -> Float[Tensor, "b c"]:
    """What aerosol has of the light scattered forwards by aerosol and molecules; thin layers scatter once."""
    forwards = aerosol.aod[:, None] * aerosol.extinction * aerosol.albedo * (1 + aerosol.asymmetry) / 2
    share: Tensor = forwards / (forwards + rayleigh_optical_depth(wavelength_nm) / 2)
    return share


class Mixed(NamedTuple):
    """What more haze does to a pixel y among its surroundings M, before what it does to ground of one colour.

    `y' = own y + (1 - own) (M + bend (M - path)^2)`.

    Attributes:
        own: direct over all transmittance upwards, after over before.
        bend: of light that goes up and down between air and ground: `(1 - S rho) / (1 - S' rho)`, for the surroundings.
        path: that is in the pixels.
    """

    own: Float[Tensor, "b c"]
    bend: Float[Tensor, "b c"]
    path: Float[Tensor, "b c"]


def mixed(before: Layer | None, after: Layer, corrected: bool) -> Mixed:
    """How a pixel is mixed with its surroundings.

    Args:
        before: the air that is in the pixels, or that a correction took off; None: none.
        after: the air with more aerosol.
        corrected: whether the pixels are free of the air of before.
    """
    return Mixed(*_mixed(before, after, corrected))


@several_by_numpy
def _mixed(xp: Any, before: Any, after: Any, corrected: bool) -> tuple[Numbers, ...]:
    own, path, through = after.direct_up / after.up, 0.0 * after.up, 1.0
    bounced = after.spherical_albedo
    if before is not None:
        own = own * before.up / before.direct_up
        bounced = bounced - before.spherical_albedo
        if not corrected:
            path, through = before.path + 0.0, before.transmittance
    again = bounced / (1 - after.spherical_albedo * _USUAL_GROUND) / through
    # No more aerosol, no mixing: nothing over nothing.
    return own, again / at_least(xp, 1 - own, 1e-9), path


def _reach(gsd_m: Float[Tensor, " r"], size: Size, down: int, across: int) -> Float[Tensor, "r 2 n n"]:
    """What each coarse cell has of the light about the middle of each other one, for aerosol and molecules.

    Cells are counted forwards, those that light is about backwards.
    """
    high, wide = (
        (gsd_m * (size.height / down / 1000))[:, None, None],
        (gsd_m * (size.width / across / 1000))[:, None, None],
    )
    steps_y = torch.arange(down, device=gsd_m.device, dtype=torch.float64)[:, None]
    steps_x = torch.arange(across, device=gsd_m.device, dtype=torch.float64)
    distance = torch.sqrt((steps_y * high) ** 2 + (steps_x * wide) ** 2)
    area = high * wide
    own = torch.sqrt(area / math.pi)
    here = (steps_y + steps_x) == 0
    kinds = []
    for terms in ENVIRONMENT:
        # A ring of width dr has F'(r) dr of the light, and an area of 2 pi r dr; the cell itself is a disc.
        far = sum(c * a * torch.exp(-a * distance) for c, a in terms) * area / (2 * math.pi * distance.clamp_min(1e-9))
        near = 1 - sum(c * torch.exp(-a * own) for c, a in terms)
        kinds.append(torch.where(here, near, far))
    # Every cell's distances to the others are a window of those on a lattice twice as wide: the last cell's first.
    by_offset = torch.stack(kinds, dim=1)
    by_offset = torch.cat((by_offset.flip(2)[:, :, :-1], by_offset), dim=2)
    by_offset = torch.cat((by_offset.flip(3)[..., :-1], by_offset), dim=3).contiguous()
    windows = by_offset.unfold(2, down, 1).unfold(3, across, 1)
    return windows.reshape(len(gsd_m), 2, down * across, down * across)

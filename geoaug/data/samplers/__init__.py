"""The orders of tiles, in one place to import them from.

`RandomTileSampler` and `WeightedTileSampler` live in `random_sampler`, the others in modules of their own names; what
they share in `sampler_base`, `tile_ground` and `tile_draws`.
"""

from geoaug.data.samplers.balanced_sampler import BalancedTileSampler
from geoaug.data.samplers.grid_sampler import GridTileSampler
from geoaug.data.samplers.locality_sampler import LocalityTileSampler
from geoaug.data.samplers.random_sampler import RandomTileSampler, WeightedTileSampler
from geoaug.data.samplers.sampler_base import TileSampler

__all__ = [
    "BalancedTileSampler",
    "GridTileSampler",
    "LocalityTileSampler",
    "RandomTileSampler",
    "TileSampler",
    "WeightedTileSampler",
]

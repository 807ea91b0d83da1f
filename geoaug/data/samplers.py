"""The orders of tiles, in one place to import them from.

`RandomTileSampler` and `WeightedTileSampler` live in `random_sampler`, `GridTileSampler` in `grid_sampler`,
`LocalityTileSampler` in `locality_sampler`; what they share in `sampler_base`, `tile_ground` and `tile_draws`.
"""

from geoaug.data.grid_sampler import GridTileSampler
from geoaug.data.locality_sampler import LocalityTileSampler
from geoaug.data.random_sampler import RandomTileSampler, WeightedTileSampler
from geoaug.data.sampler_base import TileSampler

__all__ = ["GridTileSampler", "LocalityTileSampler", "RandomTileSampler", "TileSampler", "WeightedTileSampler"]

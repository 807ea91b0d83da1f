"""Operations on whole bands."""

import torch

from geoaug.augment.base import Params, RadiometricOperation, TileShape
from geoaug.augment.terms import Terms
from geoaug.errors import ConfigurationError
from geoaug.random import Draws
from geoaug.sensors import Sensor


class RandomBandDropout(RadiometricOperation):
    """Some bands lost: a network must not lean on any one of them. At least one band always stays.

    Put it after the other radiometric operations, so that what replaces a band stays as it is.

    Args:
        max_bands: greatest number of bands lost in a tile; 1 to it, equally likely.
        fill: reflectance that replaces a lost band.
        sensor: for use outside `Compose`; see `RadiometricOperation`.
    """

    domain = None

    def __init__(
        self,
        max_bands: int = 1,
        fill: float = 0.0,
        sensor: Sensor | str | None = None,
        p: float = 0.1,
        same_on_batch: bool = False,
        keepdim: bool = False,
        same_on_time: bool = False,
    ) -> None:
        super().__init__(sensor, p, same_on_batch, keepdim, same_on_time=same_on_time)
        if not isinstance(max_bands, int) or max_bands < 1:
            raise ConfigurationError(f"max_bands={max_bands} is a number of bands of at least 1")
        self.max_bands = max_bands
        self.fill = float(fill)
        self.flags = {"max_bands": max_bands, "fill": self.fill}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        order = draws.uniforms(shape.bands).argsort(dim=1).argsort(dim=1)
        most = min(self.max_bands, shape.bands - 1)
        count = torch.zeros_like(order[:, 0]) if most < 1 else 1 + draws.integer(most)
        return {"dropped": (order < count[:, None]).double()}

    def terms(self, params: Params, sensor: Sensor | None) -> Terms:
        kept = 1 - params["dropped"].double()
        return Terms(kept, self.fill * (1 - kept))

"""Every kind of map that may stand in a plan, for reading one back."""

from geoaug.augment.physics.cloud_field import CloudField, CloudShade, CloudVeil
from geoaug.augment.physics.terrain import TerrainLight
from geoaug.augment.planning.maps import LostLines, Ramp, Stripes

MAP_KINDS: tuple[type, ...] = (CloudField, CloudShade, CloudVeil, LostLines, Ramp, Stripes, TerrainLight)

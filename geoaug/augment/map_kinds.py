"""Every kind of map that may stand in a plan, for reading one back."""

from geoaug.augment.cloud_field import CloudField, CloudShade, CloudVeil
from geoaug.augment.maps import LostLines, Ramp, Stripes
from geoaug.augment.terrain_map import TerrainLight

MAP_KINDS: tuple[type, ...] = (CloudField, CloudShade, CloudVeil, LostLines, Ramp, Stripes, TerrainLight)

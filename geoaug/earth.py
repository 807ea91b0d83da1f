"""The size of the Earth, where degrees become metres."""

import math

METRES_PER_DEGREE = math.radians(6378137.0)
"""Along the equator of WGS 84; a degree of longitude elsewhere is the cosine of the latitude times as long."""

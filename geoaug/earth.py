"""The size of the Earth, as far as it tells how long a degree is on the ground."""

import math

METRES_PER_DEGREE = math.radians(6378137.0)
"""Along the equator of WGS 84: 111,319.5 m."""

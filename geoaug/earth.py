"""The size of the Earth, as far as it tells how wide a pixel in degrees is on the ground."""

import math

METRES_PER_DEGREE = math.radians(6378137.0)
"""Along the equator of WGS 84: 111,319.5 m."""


def degrees_to_metres(side: float, latitude: float) -> float:
    """The side in metres of a square with the area on the ground of a pixel of `side` x `side` degrees.

    A degree of longitude shrinks with the cosine of the latitude (in degrees), on a sphere.
    """
    return side * METRES_PER_DEGREE * math.sqrt(max(math.cos(math.radians(latitude)), 0.0))

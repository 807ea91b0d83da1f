"""Numbers of the transfer curve of sRGB (IEC 61966-2-1:1999), shared by all executors; no code.

A display value u and linear light t, both 0 to 1 from black to white, are `t = u / SLOPE` and `u = SLOPE t` in the toe,
else `t = ((u + LIFT) / (1 + LIFT))^EXPONENT` and `u = (1 + LIFT) t^(1 / EXPONENT) - LIFT`. The toe goes on below 0, the
curve above 1, so that nothing is clamped.
"""

SLOPE = 12.92
LIFT = 0.055
EXPONENT = 2.4
# Where the toe ends, as a display value and as light.
TOE_DISPLAY = 0.04045
TOE_LIGHT = 0.0031308

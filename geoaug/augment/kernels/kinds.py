"""Numbers of the kinds of steps and of layers, which the compiled executors tell apart by them."""

AFFINE, NORMAL, GAMMA, STEPS, AMPLITUDE, DECIBEL = range(6)
PLANES, RAMP, VEIL, SHADE = range(4)

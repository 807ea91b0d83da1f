"""The operations, and the base classes that any operation is built on: all that a contributor opens.

Begin with `base`, then the shortest operation that is like yours. `geometric` moves pixels; `atmosphere`, `clouds`,
`illumination`, `sun`, `optics`, `detector`, `sensor_noise` and `sar` change values; `policies` choose among operations;
`stock` lets kornia's own stand in the same list. `docs/extending.md` shows how to add one.

May import `planning`, `physics`, `kernels` and, for policies, `registry`; never `compose` or `recipe`.
"""

"""Tasks: what a network learns, how it is trained, and what its answers mean.

`base` is the contract and the training loop; each task is a class in a file of its own (`classification`,
`segmentation`, `regression`, `change`), those with classes on top of `classes`; `registry` finds them by name. Losses
and metrics, and the training as a value, are in `losses`, `metrics` and `training`. Begin at `base.GeoTask`.

Imports `networks`, and of geoaug what reads and augments; nothing of `fit`, `predict` or the command line.
"""

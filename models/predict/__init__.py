"""A model's answers for whole scenes and for chips, and why it gave them.

Begin with `scene` (maps of any size) and `chips` (a table). `model_scene` is what a model is given of a scene,
`answers` asks the network, `blending` joins overlapping windows, `map_files` and `polygons` write. `trained_gsd` holds
to the ground sampling distance of the training; `explain` looks for reasons. Imports from `geoaug.models.networks`,
`geoaug.data` and below.
"""

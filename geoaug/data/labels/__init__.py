"""Class labels on the grid of any tile, from rasters and from vectors.

Begin with `label_source.py`: `LabelSource` is what every source of labels offers, and what a new one implements; its
`read` and `overlaps` are called from many threads at once. `opening.py` opens a file of either sort, `raster.py` and
`vector.py` read them, and `tile_labels.py` gives the labels of tiles to datasets and surveys: one source for all
scenes, or a raster that belongs to each.

Imports from `geoaug.data.raster`, and knows nothing of catalogs.
"""

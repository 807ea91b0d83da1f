"""Products: each file is one way in which the files of scenes are laid out.

Begin with `product.py`: `Product` is what a new one implements; `geoaug.data.registry` has a line for each. A product
judges by the names of files, makes sources, and a source reads metadata and headers when it is asked to, in any thread.
`raster.py` and `band_source.py` hold the two sources that several products share.

Imports from `geoaug.data.raster`, and nothing else of `geoaug.data.catalog`.
"""

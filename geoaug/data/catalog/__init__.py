"""Catalogs: what is known of many scenes, in one table; and the ways from files to it.

Begin with `catalog.py` (the value) and `index.py` (what makes it: `index_folder`, `index_files`, `index_stac`). Between
them stand `layouts.py`, which searches folders, and `products/`, one file for each way in which files are laid out.
`table.py` holds rows and their Parquet file, `arrow_arrays.py` columns as numpy arrays, `band_choice.py` which bands of
which type all scenes of a catalog share.

Imports from `geoaug.data.raster` and `geoaug.data.labels`, and nothing above them. Reads headers, never pixels.
"""

import geoaug.data.catalog.index  # noqa: F401  # so that Catalog.from_folder and its like are there

"""What was read, as pictures: contact sheets, batches, catalogs on a map.

Begin with `composites.py`, which makes arrays of any bands into colours, and `page.py`, which lays out and saves
figures; `contact_sheet.py`, `batch_picture.py` and `catalog_picture.py` are the pictures themselves. Arrays and
catalogs come in, figures and files go out; reading and augmenting are done elsewhere.

Imports from `geoaug.data.catalog` and `raster`, and draws with matplotlib, which is imported with these modules alone.
"""

"""Tiles as training samples: `TileDataset` reads them, `TileLoader` reads whole batches ahead.

`options` is how tiles are read, as one value; `dataset` has tiles and batches of them, `loader` the
order of reading ahead. Begin at `dataset.TileDataset`. Imports the rooms of `geoaug.data` that know scenes, labels,
catalogs and samplers; nothing of torch but tensors and `Dataset`, nothing of Lightning.
"""

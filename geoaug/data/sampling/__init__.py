"""Where tiles lie: orders of tiles for training, splits of a catalog, and the survey that both look at.

Three things that stand beside each other. *Samplers* give the order of tiles: begin with `sampler.py`, whose
`TileSampler` is what a new one implements; each order has a file (`random_sampler.py`, `locality_sampler.py`,
`balanced_sampler.py`, `grid_sampler.py`), and `tile_source.py`, `tile_ground.py` and `region_grid.py` know where tiles
may lie. *Splits* deal out scenes or blocks of ground: begin with `splits.py`; `split_ground.py`, `ground_blocks.py` and
`scene_overlap.py` do the geometry, and `leaks.py` checks the result without knowing how it was made. *Surveys* read all
pixels once: begin with `survey.py`; `scan.py` reads, `coverage.py` and `stats.py` count.

Imports from `geoaug.data.catalog`, `labels` and `raster`. Samplers and splits read no pixels, but
columns of a catalog.
"""

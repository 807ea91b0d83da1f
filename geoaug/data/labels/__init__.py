"""Class labels on the grid of any tile, from rasters and from vectors."""

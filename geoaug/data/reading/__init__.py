"""Pixels of many tiles at once: files as views on a tile's grid, blocks decoded once and shared."""

"""One scene: its files and their headers, its bands and grid, and windows read from it."""

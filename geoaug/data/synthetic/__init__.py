"""A made Sentinel-2 scene with its class raster: for the demo, for tests and for benchmarks."""

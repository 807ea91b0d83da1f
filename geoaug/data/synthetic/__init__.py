"""A made Sentinel-2 scene with its class raster: for the demo, for tests and for benchmarks.

Begin with `made_scene.py` (`make_scene`, `write_scene`). It sees the ground of `landscape.py` through air and sensor;
`fields.py` has the shapes, `spectra.py` the reflectance of land covers. Nothing here is used to augment anything, and
nothing else of `geoaug.data` is imported.
"""

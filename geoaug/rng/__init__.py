"""Random numbers that are a function of (seed, sample, epoch) alone.

`philox` is the generator, `draws` the keys of samples and the parameters drawn from them, `noise` fields of normal
numbers. Begin with `draws`. Imports torch and numpy, and nothing of geoaug but `errors` and `small_arrays`.
"""

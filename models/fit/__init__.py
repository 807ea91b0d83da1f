"""`geoaug fit`, `validate` and `test`, but for the command line: from data to one model file.

`choices` goes from data alone to a configuration (`splits` where ground must be split); `fitting` from a configuration
to a model file: `data` and `task` are the two parts that it describes, `curves` what is left to look at, `devices` what
the machine can do. Begin at `fitting.fit`.

Imports `tasks`, `networks` and of `predict` the check of ground sampling distances.
"""

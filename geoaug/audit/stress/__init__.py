"""Robustness of a model: its metric on tiles under nuisances of growing strength, in curves, tables and pictures.

Begin with `running` (a stress test from its tiles to its results) and `nuisances` (what is done to the tiles, and how
strongly). `subject` says what a model is here: an object that judges tiles; the one of model files is
`geoaug.models.stress`. `results` are values, `figures` and `page` what a person sees. Imports from `geoaug.audit` what
reports are made of, and knows nothing of models.
"""

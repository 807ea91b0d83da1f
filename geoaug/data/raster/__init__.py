"""One scene: what is known of it, how its files appear on a grid, and reading windows of it with their validity.

Begin with `record` (what is known: plain values) and `view` (the files on the grid of the tiles); `reading` gives
windows of a view. Beneath them: `inputs` (what a person names), `files` (open rasters), `headers`, `bands`, `identify`
and `quality` (from a header to bands of a record), `grid` and `window` (numbers alone), `blocks` (decoded parts of
files). `overview` looks a scene over. Nothing here knows of catalogs, labels or samplers; imports come from
`geoaug.sensors`, `geoaug.errors` and the modules beside it.
"""

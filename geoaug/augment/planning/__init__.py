"""What will happen to a batch, in numbers; no pixels.

`plan` is the result: stages of one matrix (`matrices`) and a few segments (`segments`), which are made of radiometric
terms (`terms`) and maps over the tile (`maps`). `scale` folds digital numbers and normalisation into them, and `tree`
moves all of it between devices and to JSON. Who makes a plan is `geoaug.augment.planner`.

Begin with `plan`, then `segments`. Nothing here imports kernels or operations.
"""

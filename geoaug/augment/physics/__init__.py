"""Physics as plain functions of wavelength, angle and band, and the maps that are made by it.

`air` is the atmosphere, `cloud_optics` what drops and crystals reflect, `cloud_field` the shape of clouds and shadows,
`terrain` the light on slopes. Each names its sources. Nothing here draws: that is `operations`.
"""

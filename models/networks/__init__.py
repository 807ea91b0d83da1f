"""Networks: ResNets on any bands, decoders, change between two dates, their weights and their files.

`architecture` is the value that describes a network and `build` makes it; `resnet`, `segmentation` and `change` are the
three kinds. `weights` reads what others trained, `stem` brings its first layer to other bands, `batchnorm` and
`dropout` control the two. `card` is what is known of a trained model, `model_file` the file of both. Begin at `resnet`.

Imports nothing of the other rooms of `geoaug.models` but the names of tasks.
"""

"""What a person can do about an error, in Python and on the command line: the same words wherever they are needed."""


def as_type(dtype: str) -> str:
    """How to read all scenes as a type."""
    return f"dtype='{dtype}' (geoaug stats --dtype {dtype}, geoaug fit --data.dtype {dtype})"


LEAVE_OUT = (
    "on_error='skip' (geoaug index --on-error skip, geoaug stats --skip-errors, geoaug fit --data.on_error skip)"
)
"""How to leave out what cannot be read."""

A_SCENE_A_FILE = "kind='raster' (geoaug index --kind raster)"
"""How to take each file for a scene."""

CLASSES_BY_NAME = "holds classes or flags by its name or its palette"
"""What a raster of classes is called."""

CLASSES_ADVICE = (
    "give such rasters as labels (--labels), or leave them out; where a palette is a picture's, expand_palette "
    "(--expand-palette) takes its colours"
)
"""What to do with a raster of classes among scenes."""

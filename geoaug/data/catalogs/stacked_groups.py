"""Groups of files that are named as if each held a band, and hold several: a few headers tell, where names mislead.

How files are grouped by their names is in `geoaug.data.catalogs.band_groups`.
"""

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import PurePath

from geoaug.data.scenes.bands import image_indexes
from geoaug.data.scenes.opening import open_dataset
from geoaug.data.scenes.product_names import product_of
from geoaug.data.scenes.sources import BandsSource, RasterSource, SceneSource
from geoaug.errors import RasterError

_NUMBERED = re.compile(r"B\d{1,2}", re.IGNORECASE)
_LOOKED_AT = 4


def stacks_apart(sources: Sequence[SceneSource]) -> list[SceneSource]:
    """The sources, with groups whose files hold several bands each as a scene for each file.

    Only groups without labels and quality layer are doubted, whose bands are mere numbers (b0, b1...) and whose names
    tell no product. A header is looked at of the first few of them; where all these hold several bands, the others are
    taken to.
    """
    doubted = (source for source in sources if isinstance(source, BandsSource) and _is_generic(source))
    looked_at = {id(source): _is_stacks(source) for source in islice(doubted, _LOOKED_AT)}
    if not any(looked_at.values()):
        return list(sources)
    all_are = all(looked_at.values())
    apart: list[SceneSource] = []
    for source in sources:
        if isinstance(source, BandsSource) and looked_at.get(id(source), all_are and _is_generic(source)):
            apart += [RasterSource(path) for path in source.bands.values()]
        else:
            apart.append(source)
    return apart


def _is_generic(source: BandsSource) -> bool:
    alone = source.quality is None and source.mask_path is None
    return alone and all(map(_NUMBERED.fullmatch, source.bands)) and product_of(PurePath(source.name).name, {}) is None


def _is_stacks(source: BandsSource) -> bool:
    """Whether each file of a group holds several bands; mostly the first one denies it."""
    return all(map(_holds_several, source.bands.values()))


def _holds_several(path: str) -> bool:
    try:
        with open_dataset(path) as dataset:
            return len(image_indexes(dataset, None, None)) > 1
    except RasterError:
        return False  # told, or left out, when its turn comes

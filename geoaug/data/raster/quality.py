"""Classes and flags of quality layers by name, and which of them make a pixel invalid unless a person says otherwise.

Sources: ESA, Sentinel-2 Products Specification Document (scene classification, MSK_CLASSI); USGS, Landsat 8-9
Collection 2 Level 2 Science Product Guide (QA_PIXEL) and Landsat Collection 1 Level 1 Quality Assessment Band (BQA).
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from geoaug.errors import ConfigurationError

# Layers of classes have 8 bits, those of flags 16.
_LARGEST = {"classes": 255, "bits": 15}


@dataclass(frozen=True, slots=True)
class QualityScheme:
    """What the numbers of a quality layer mean.

    Attributes:
        name: as in its product.
        kind: whether the numbers are classes, or numbers of bits.
        meanings: of the numbers; several may share a name.
        invalid: the numbers that make a pixel invalid by default.
    """

    name: str
    kind: Literal["classes", "bits"]
    meanings: Mapping[int, str]
    invalid: tuple[int, ...]

    def chosen(self, wanted: Sequence[str | int] | None) -> tuple[int, ...]:
        """The numbers that `wanted` (names or numbers) names in this scheme; the default where it is None.

        A name that only other schemes know is passed over, so that one list serves scenes of several missions.

        Raises:
            ConfigurationError: a name that no scheme knows, or a number that this layer cannot hold.
        """
        if wanted is None:
            return self.invalid
        numbers: list[int] = []
        for entry in wanted:
            text = str(entry).strip().lower().replace(" ", "_").replace("-", "_")
            if text.isdecimal():
                if int(text) > _LARGEST[self.kind]:
                    what = "bit" if self.kind == "bits" else "class"
                    raise ConfigurationError(
                        f"{text} is no {what} of the quality layer {self.name} (bits are 0 to {_LARGEST['bits']}, "
                        f"classes 0 to {_LARGEST['classes']}); choose other numbers, or names: invalid=['cloud'] "
                        "(--invalid cloud)"
                    )
                numbers.append(int(text))
                continue
            if text not in _NAMES:
                near = difflib.get_close_matches(text, _NAMES, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise ConfigurationError(f"'{entry}' is no quality class{hint}; there are {', '.join(_NAMES)}")
            numbers += [number for number, name in self.meanings.items() if name == text]
        return tuple(dict.fromkeys(numbers))


SCL = QualityScheme(
    "SCL",
    "classes",
    {
        0: "nodata", 1: "saturated", 2: "dark", 3: "cloud_shadow", 4: "vegetation", 5: "bare", 6: "water",
        7: "unclassified", 8: "cloud", 9: "cloud", 10: "cirrus", 11: "snow",
    },
    (0, 1, 3, 8, 9, 10),
)  # fmt: skip
"""Sentinel-2 level 2A. Snow (11) is ground and stays valid, as do dark areas (2), which are often terrain shadow."""

CLASSI = QualityScheme("MSK_CLASSI", "classes", {1: "cloud"}, (1,))
"""Sentinel-2 level 1C from baseline 04.00 on: the band of opaque clouds, 1 where one is."""

QA_PIXEL = QualityScheme(
    "QA_PIXEL",
    "bits",
    {0: "nodata", 1: "dilated_cloud", 2: "cirrus", 3: "cloud", 4: "cloud_shadow", 5: "snow", 6: "clear", 7: "water"},
    (0, 1, 2, 3, 4),
)
"""Landsat collection 2. Snow (bit 5) is ground and stays valid; the confidences (bits 8 on) are left."""

BQA = QualityScheme(
    "BQA", "bits", {0: "nodata", 4: "cloud", 8: "cloud_shadow", 10: "snow", 12: "cirrus"}, (0, 4, 8, 12)
)
"""Landsat collection 1. Bits 8, 10 and 12 are the high bits of confidences, set where these are high."""

_SCHEMES = (SCL, CLASSI, QA_PIXEL, BQA)
_NAMES = sorted({name for scheme in _SCHEMES for name in scheme.meanings.values()})
SCHEMES: Mapping[str, QualityScheme] = {scheme.name: scheme for scheme in _SCHEMES}
"""By the word that stands in the names of files."""


def check_chosen(wanted: Sequence[str | int] | None) -> None:
    """Raise `ConfigurationError` where `wanted` has a name or a number that no scheme knows."""
    max(_SCHEMES, key=lambda scheme: _LARGEST[scheme.kind]).chosen(wanted)

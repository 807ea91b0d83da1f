"""The random numbers behind orders of tiles: functions of (seed, epoch, place in an order), without any state.

Uniform numbers and shuffled places, worked out for many places of an order at once and for any of them alone, so that
an order can be taken up anywhere. What is drawn with them is decided in the samplers.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from geoaug.philox import philox4x32

Places = npt.NDArray[np.int64]

# The last counter word keeps these numbers apart from those that `geoaug.random` makes of the same seed.
_FOR_PLACES, _FOR_SHUFFLES = 101, 102
_MASK32 = 0xFFFFFFFF
_ROUNDS = 6


class TileDraws:
    """Numbers of one use (a purpose) under one seed.

    Args:
        seed: any integer of up to 64 bits.
        purpose: a small number; the numbers of two purposes have nothing to do with each other.
    """

    def __init__(self, seed: int, purpose: int) -> None:
        self._key = torch.tensor([seed & _MASK32, (seed >> 32) & _MASK32])
        self._purpose = purpose

    def uniforms(self, place: Places, epoch: int = 0, attempt: int = 0) -> npt.NDArray[np.float64]:
        """Four uniform numbers in (0, 1) for each place: (places, 4)."""
        words = self._words(place, np.full_like(place, epoch), attempt, _FOR_PLACES)
        return (words.T + 0.5) * 2.0**-32

    def shuffled(self, place: Places, size: int, turn: Places | int) -> Places:
        """Where each place of 0 to `size` - 1 goes in the shuffle of that turn: a permutation for each turn.

        A Feistel network over the next square of a power of two, walked until it comes back into the range.
        """
        if size == 1:
            return np.zeros_like(place)
        half = (max(size - 1, 1).bit_length() + 1) // 2
        turns = np.zeros_like(place) + turn
        result = self._feistel(place, turns, half)
        while len(outside := np.flatnonzero(result >= size)):
            result[outside] = self._feistel(result[outside], turns[outside], half)
        return result

    def _feistel(self, place: Places, turn: Places, half: int) -> Places:
        mask = (1 << half) - 1
        left, right = place >> half, place & mask
        for number in range(_ROUNDS):
            words = self._words(right | (number << 40), turn, 0, _FOR_SHUFFLES)
            left, right = right, left ^ (words[0] & mask)
        return (left << half) | right

    def _words(self, place: Places, turn: Places, attempt: int, use: int) -> npt.NDArray[Any]:
        index, turns = torch.from_numpy(place), torch.from_numpy(turn)
        counter = torch.stack(
            (
                index & _MASK32,
                (index >> 32) & _MASK32,
                turns & _MASK32,
                torch.full_like(index, use | self._purpose << 8 | attempt << 12),
            )
        )
        return philox4x32(counter, self._key[:, None]).numpy()

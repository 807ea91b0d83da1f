"""Dealing out things (blocks of ground, groups of scenes) so that splits get the shares that were asked for."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from geoaug.errors import ConfigurationError
from geoaug.random import sample_keys

Array = npt.NDArray[Any]

_ORDERS = 32  # that are tried for the sake of classes, until the amounts are as near to the shares as this
_NEAR_ENOUGH = 0.03


def checked_shares(shares: Mapping[str, float]) -> dict[str, float]:
    """Shares that add up to 1.

    Raises:
        ConfigurationError: fewer than two splits, a share that is not above 0, or shares of another sum.
    """
    if len(shares) < 2:
        raise ConfigurationError(f"a split into {len(shares)} part: give the shares of two or more")
    for name, share in shares.items():
        if not share > 0:
            raise ConfigurationError(f"the split '{name}' has the share {share:g}: it must be above 0")
    total = sum(shares.values())
    if abs(total - 1) > 1e-3:
        raise ConfigurationError(f"the shares add up to {total:g}: they must add up to 1")
    return {name: share / total for name, share in shares.items()}


def dealt(
    identity: npt.NDArray[np.int64], size: npt.NDArray[np.float64], classes: Array, shares: Array, seed: int
) -> npt.NDArray[np.int64]:
    """Which split each thing goes to.

    In an order by chance, great ones first, each thing goes to the split that lacks most. Where classes are known, the
    best of several orders is taken: that in which the classes come nearest to the shares, too.

    Args:
        identity: of each thing, by which chance treats it.
        size: of each, in any unit.
        classes: (things, classes) amounts of each class; no columns where nothing is known.
        shares: of the splits, adding up to 1.
        seed: of the chance.
    """
    best: tuple[float, npt.NDArray[np.int64]] | None = None
    known = classes[:, classes.sum(axis=0) > 0]
    for attempt in range(_ORDERS if known.shape[1] else 1):
        keys = sample_keys(seed, torch.from_numpy(identity), attempt).numpy()
        # By halves of the greatest: things of about one size come in any order.
        order = np.lexsort((keys, -np.ceil(2 * size / size.max(initial=1e-300))))
        chosen = _greedy(order, size, shares)
        off = 0.0
        if known.shape[1]:
            got = np.stack([known[chosen == number].sum(axis=0) for number in range(len(shares))])
            off = float(np.abs(got / known.sum(axis=0) / shares[:, None] - 1).max())
        if best is None or off < best[0]:
            best = off, chosen
        if off < _NEAR_ENOUGH:
            break
    assert best is not None
    return best[1]


def _greedy(order: Array, size: npt.NDArray[np.float64], shares: Array) -> npt.NDArray[np.int64]:
    chosen = np.zeros(len(size), dtype=np.int64)
    given = [0.0] * len(shares)
    targets = (shares * size.sum()).tolist()
    sizes = size.tolist()
    for place in order.tolist():
        # What is lacking in terms of the split's own share, so that small splits are not served last.
        split = max(range(len(given)), key=lambda number: (targets[number] - given[number]) / targets[number])
        chosen[place] = split
        given[split] += sizes[place]
    return chosen

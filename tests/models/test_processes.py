"""Which process of a training is the first, by what those who start processes tell them."""

import os

import pytest

from geoaug.models.fit.devices import is_first_process, prepared_for_others, started_together

NAMES = ("RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE")


@pytest.mark.parametrize(
    ("told", "first", "together"),
    [
        ({}, True, False),
        ({"WORLD_SIZE": "4"}, True, False),  # nobody's rank: a variable that was left over
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, False, True),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, True, True),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False, True),
        ({"NODE_RANK": "1"}, False, True),
        ({"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "WORLD_SIZE": "8"}, True, True),
        ({"RANK": "4", "LOCAL_RANK": "0", "GROUP_RANK": "1", "WORLD_SIZE": "8"}, False, True),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, True, False),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}, False, True),
    ],
)
def test_the_first_process_is_known_before_they_meet(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], first: bool, together: bool
) -> None:
    for name in (*NAMES, "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() == first
    assert started_together() == together
    before = dict(os.environ)
    with prepared_for_others():
        assert not started_together()
        with prepared_for_others():
            pass
        assert not started_together()
    assert dict(os.environ) == before

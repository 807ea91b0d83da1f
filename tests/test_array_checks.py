"""The shapes written in annotations must really be checked while the tests run."""

import os

import pytest
import torch
from jaxtyping import TypeCheckError

from geoaug.augment.kernels import portable
from geoaug.rng.philox import philox4x32

pytestmark = pytest.mark.skipif(os.environ.get("GEOAUG_CHECK_ARRAYS") != "1", reason="GEOAUG_CHECK_ARRAYS is not 1")


def test_a_wrong_shape_is_caught_in_functions() -> None:
    counter = torch.zeros(4, 5, dtype=torch.int64)
    philox4x32(counter, torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(TypeCheckError, match="counter"):
        philox4x32(counter[:3], torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(TypeCheckError, match="key"):
        philox4x32(counter, torch.zeros(2, 4, dtype=torch.int64))


def test_a_wrong_type_is_caught_in_dataclasses() -> None:
    image, valid = torch.zeros(2, 3, 8, 8), torch.ones(2, 1, 8, 8, dtype=torch.bool)
    portable.Pixels(image, valid, None)
    with pytest.raises(TypeCheckError, match="valid"):
        portable.Pixels(image, valid.float(), None)

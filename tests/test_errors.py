"""Errors say what they are about by attributes, which travel between processes."""

import copy
import pickle

import pytest

from geoaug.errors import ConfigurationError, GeoaugError, RasterError


@pytest.mark.parametrize("kind", [GeoaugError, ConfigurationError, RasterError])
@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
def test_attributes_travel(kind, again) -> None:
    error = kind("a.tif: too small", path="a.tif", scene="a", argument="tile")
    other = again(error)
    assert type(other) is kind
    assert str(other) == "a.tif: too small"
    assert (other.path, other.scene, other.argument) == ("a.tif", "a", "tile")


def test_attributes_are_none_where_nothing_is_to_blame() -> None:
    error = GeoaugError("no")
    assert (error.path, error.scene, error.argument) == (None, None, None)

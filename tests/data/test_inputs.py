"""What a person types becomes a list of rasters, or one clear line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoaug.data.raster.inputs import resolve_inputs, scene_ids
from geoaug.errors import ConfigurationError


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name in (
        "b.tif",
        "a.TIF",
        "notes.md",
        ".hidden.tif",
        "april/B02.jp2",
        "may/B02.jp2",
        "may/quicklook.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def names(paths: list[str], root: Path) -> list[str]:
    return [Path(path).relative_to(root).as_posix() for path in paths]


def test_a_folder_is_searched_recursively_and_sorted(archive: Path) -> None:
    assert names(resolve_inputs([str(archive)]), archive) == [
        "a.TIF",
        "april/B02.jp2",
        "b.tif",
        "may/B02.jp2",
    ]


def test_a_named_file_may_have_any_extension(archive: Path) -> None:
    assert names(resolve_inputs([str(archive / "may/quicklook.png")]), archive) == ["may/quicklook.png"]


def test_a_glob_reaches_into_folders_and_leaves_metadata_out(archive: Path) -> None:
    assert names(resolve_inputs([str(archive / "*/B0?.jp2")]), archive) == ["april/B02.jp2", "may/B02.jp2"]
    assert names(resolve_inputs([str(archive / "may/*")]), archive) == ["may/B02.jp2"]
    assert names(resolve_inputs([str(archive / "**/*.png")]), archive) == ["may/quicklook.png"]
    assert names(resolve_inputs([str(archive / "m*")]), archive) == ["may/B02.jp2"]


def test_a_list_is_relative_to_its_own_folder_or_the_current_one(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = archive / "may/scenes.txt"
    scenes.write_text("# two scenes\n\nB02.jp2\nhttps://example.org/x.tif\nb.tif\n")
    monkeypatch.chdir(archive)
    assert resolve_inputs([str(scenes)]) == [
        str(archive / "may/B02.jp2"),
        "/vsicurl/https://example.org/x.tif",
        "b.tif",
    ]


def test_each_raster_comes_once_in_the_order_given(archive: Path) -> None:
    found = resolve_inputs([str(archive / "may"), str(archive / "b.tif"), str(archive)])
    assert names(found, archive) == ["may/B02.jp2", "b.tif", "a.TIF", "april/B02.jp2"]


def test_addresses_become_paths_that_gdal_reads() -> None:
    assert resolve_inputs(
        ["https://e.org/a.tif?t=1", "s3://bucket/a.tif", "/vsizip/x.zip/a.tif", "NETCDF:a.nc:red"]
    ) == [
        "/vsicurl/https://e.org/a.tif?t=1",
        "/vsis3/bucket/a.tif",
        "/vsizip/x.zip/a.tif",
        "NETCDF:a.nc:red",
    ]


def test_what_is_not_there_is_named(archive: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^scene\.tif: no such file or folder$"):
        resolve_inputs(["scene.tif"])
    with pytest.raises(ConfigurationError, match=r"empty: no raster in this folder"):
        resolve_inputs([str(archive / "empty")])
    with pytest.raises(ConfigurationError, match=r"no raster matches"):
        resolve_inputs([str(archive / "*.vrt")])
    with pytest.raises(ConfigurationError, match="no input"):
        resolve_inputs([])


def test_a_list_names_the_line_that_is_wrong(archive: Path) -> None:
    scenes = archive / "scenes.txt"
    scenes.write_text("b.tif\nmissing.tif\n")
    with pytest.raises(ConfigurationError, match=r"scenes\.txt, line 2: missing\.tif: no such file"):
        resolve_inputs([str(scenes)])
    scenes.write_text("# nothing\n")
    with pytest.raises(ConfigurationError, match="names no raster"):
        resolve_inputs([str(scenes)])


def test_names_are_stems_and_gain_a_folder_only_where_they_collide() -> None:
    assert scene_ids(["/x/april/B02.tif", "/x/may/b02.tif", "/x/may/SCL.tif"]) == {
        "/x/april/B02.tif": "april_B02",
        "/x/may/b02.tif": "may_b02",
        "/x/may/SCL.tif": "SCL",
    }
    assert set(scene_ids(["/x/a.tif", "/x/a.tiff"]).values()) == {"x_a", "x_a-2"}
    assert scene_ids(["/vsicurl/https://e.org/s 1.tif?sig=a/b"]) == {"/vsicurl/https://e.org/s 1.tif?sig=a/b": "s_1"}


@given(st.lists(st.text("abAB/._ :?*é", min_size=1), unique=True))
def test_names_are_unique_and_fit_for_a_file_name(paths: list[str]) -> None:
    ids = scene_ids(paths)
    assert list(ids) == paths
    assert len({name.casefold() for name in ids.values()}) == len(paths)
    assert not any(set(name) & set('/\\:*?"<>| ') or name.startswith(".") or not name for name in ids.values())

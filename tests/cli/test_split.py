"""`geoaug split`: splits are written into the catalog, and what they hold is said."""

from pathlib import Path
from typing import Any

import pytest
from made_catalogs import made_scene

from geoaug.data import Catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    records = [
        made_scene(f"{season}{n}", 500, 500, x=400000 + 6000 * n, datetime=f"202{n}-05-01", folder=folder)
        for n, (season, folder) in enumerate([("dry", "train"), ("wet", "train"), ("dry", "test"), ("wet", "test")])
    ]
    path = tmp_path / "scenes.parquet"
    Catalog.from_records(records, attributes={"season": ["dry", "wet", "dry", "wet"]}).save(path)
    return path


def test_ground_is_split_and_said(geoaug: Any, catalog: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    done = geoaug("split", catalog, "-o", target, "--block-m", 1000, "--buffer-m", 100, "--size", 32)
    assert done.code == 0, done.err
    found = Catalog.open(target)
    rows = {line.split()[0]: line.split() for line in done.out.splitlines()[1:4]}
    assert sorted(rows) == ["test", "train", "val"]
    for name, row in rows.items():
        assert len(found.split(name)) == int(row[1])
    ground = {name: float(row[2]) for name, row in rows.items()}
    assert sum(ground.values()) < 100, "buffers are taken off the 4 scenes of 25 km2"
    assert ground["train"] / sum(ground.values()) == pytest.approx(0.7, abs=0.08)
    assert "split" not in Catalog.open(catalog).table.column_names


def test_a_split_without_room_for_a_tile_is_written_and_noted_and_ends_with_1(geoaug: Any, catalog: Path) -> None:
    tight = geoaug("split", catalog, "--block-m", 1000, "--size", 256)
    assert tight.code == 1, tight.err
    assert f"written to {catalog}" in " ".join(tight.out.split())
    assert Catalog.open(catalog).split_names == ["train", "val", "test"]
    for name in ("train", "val", "test"):
        assert f"split '{name}' holds no tile of 256 pixels" in " ".join(tight.err.split())
    roomy = geoaug("split", catalog, "--block-m", 1000, "--size", 32)
    assert (roomy.code, "holds no tile" in roomy.err) == (0, False)


@pytest.mark.parametrize(
    ("arguments", "train", "test"),
    [
        (("--method", "folder"), ["dry0", "wet1"], ["dry2", "wet3"]),
        (("--method", "date", "--starts", "train=,test=2021-01-01"), ["dry0"], ["wet1", "dry2", "wet3"]),
        (
            ("--method", "attribute", "--column", "season", "--values", "train=dry", "--values", "test=wet"),
            ["dry0", "dry2"],
            ["wet1", "wet3"],
        ),
    ],
)
def test_scenes_are_split_by_what_is_known_of_them(
    geoaug: Any, catalog: Path, arguments: tuple[str, ...], train: list[str], test: list[str]
) -> None:
    done = geoaug("split", catalog, *arguments)
    assert done.code == 0, done.err
    found = Catalog.open(catalog)
    assert (found.split("train").ids, found.split("test").ids) == (train, test)


def test_folds_and_chance(geoaug: Any, catalog: Path) -> None:
    assert geoaug("split", catalog, "--method", "kfold", "--folds", 3, "--block-m", 1500, "--size", 64).code == 0
    assert len(Catalog.open(catalog).split("fold2-train"))
    done = geoaug("split", catalog, "--method", "random", "--shares", "train=0.5,test=0.5")
    assert done.code == 0
    assert len(Catalog.open(catalog).split("test")) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--shares", "train=0.7,val"), "'val' is not written as name=value"),
        (("--shares", "train=most,val=0.2"), "the share of 'train' is 'most'"),
        (("--method", "date"), "say when each split begins"),
        (("--method", "attribute"), "name a column"),
        (("--block-m", "900000"), "too few for 3 splits"),
        (("--shares", "train=0.9,train=0.5,val=0.5"), "the split 'train' is named twice"),
        (("--method", "date", "--starts", "train=,train=2021-01-01"), "the split 'train' is named twice"),
        (("--method", "folder", "--buffer-m", "100"), "--buffer-m is for --method blocks, kfold, random, not folder"),
        (("--method", "random", "--block-m", "100"), "--block-m is for --method blocks, kfold, not random"),
        (("--starts", "train=,test=2021-01-01"), "--starts is for --method date, not blocks"),
        (("--method", "attribute", "--column", "season", "--values", "train"), "'train' is not written as split="),
    ],
)
def test_what_cannot_be_split_is_told(geoaug: Any, catalog: Path, arguments: tuple[str, ...], said: str) -> None:
    before = catalog.read_bytes()
    done = geoaug("split", catalog, *arguments)
    assert done.code == 2
    assert said in done.err
    assert catalog.read_bytes() == before


def test_ground_in_several_splits_is_noted_where_the_method_does_not_look_at_it(geoaug: Any, tmp_path: Path) -> None:
    records = [made_scene(f"s{n}", 500, 500, x=400000, datetime=f"202{n}-05-01") for n in range(2)]
    path = tmp_path / "dates.parquet"
    Catalog.from_records(records).save(path)
    done = geoaug("split", path, "--method", "date", "--starts", "train=,test=2021-01-01")
    assert done.code == 0, done.err
    assert "'s0' of the split 'train' and scene 's1' of the split 'test' lie over each other" in " ".join(
        done.err.split()
    )


def test_small_scenes_stay_whole_and_hold_tiles_unless_blocks_are_told(geoaug: Any, tmp_path: Path) -> None:
    records = [made_scene(f"s{n}", 512, 512, x=400000 + 9000 * n) for n in range(9)]
    path = tmp_path / "small.parquet"
    Catalog.from_records(records).save(path)
    done = geoaug("split", path, "--size", 256)
    assert done.code == 0, done.err + done.out
    tiles = {line.split()[0]: int(line.split()[3]) for line in done.out.splitlines()[1:4]}
    assert sum(tiles.values()) == 9 * 4
    assert min(tiles.values()) >= 4
    assert geoaug("split", path, "--size", 256, "--block-m", 2600).code in (0, 1)
    assert Catalog.open(path).notes["splits"]["cut"], "blocks that are told cut what is larger than they are"


def test_ground_without_a_scale_is_not_made_up(geoaug: Any, tmp_path: Path) -> None:
    path = tmp_path / "chips.parquet"
    Catalog.from_records([made_scene(f"s{n}", 64, 64, crs=None) for n in range(6)]).save(path)
    done = geoaug("split", path, "--method", "random", "--size", 64)
    assert done.code == 0, done.err
    assert {line.split()[2] for line in done.out.splitlines()[1:4]} == {"-"}

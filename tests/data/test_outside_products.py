"""Products of other packages: one class, and folders, kinds and messages know it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from outside_package import install
from scenes import numbers, write_raster

from geoaug.cli.main import main
from geoaug.data import (
    Catalog,
    FoundScenes,
    HeaderOptions,
    LooseFiles,
    Package,
    Product,
    ReadScene,
    TileDataset,
)
from geoaug.data.catalog.products.raster import RasterSource
from geoaug.data.registry import PRODUCTS
from geoaug.errors import ConfigurationError, RasterError


@dataclass(frozen=True, slots=True)
class StripSource:
    """A raster with a text file that says its date."""

    path: str
    mask_path: str | None = None
    kind: str = "strip"

    @property
    def name(self) -> str:
        return self.path

    @property
    def files(self) -> tuple[str, ...]:
        return (self.path, self.path.removesuffix(".tif") + ".strip")

    def read(self, scene_id: str, options: HeaderOptions) -> ReadScene:
        found = RasterSource(self.path, mask_path=self.mask_path).read(scene_id, options)
        day = Path(self.files[1]).read_text().strip()
        return ReadScene(replace(found.record, kind=self.kind, datetime=day), {"operator": "a"}, None)


class Strips(Product):
    name = "strip"

    def recognise(self, folder: str, names: Sequence[str]) -> list[Package]:
        stems = [name.removesuffix(".strip") for name in names if name.endswith(".strip")]
        return [Package(str(Path(folder, f"{stem}.tif")), (f"{stem}.tif", f"{stem}.strip")) for stem in stems]

    def scenes(self, package: Package) -> FoundScenes:
        if not Path(package.path).is_file():
            raise RasterError(f"{package.path}: the strip lacks its raster")
        return FoundScenes([StripSource(package.path)])


class LastOfEach(Product):
    """The last file of each folder alone."""

    name = "last"

    def arrange(self, files: LooseFiles, *, asked: bool) -> FoundScenes | None:
        if not asked:
            return None
        last = {Path(path).parent: path for path in files.rasters}
        return FoundScenes([RasterSource(path, kind="last") for path in last.values()])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        write_raster(tmp_path / "scenes" / f"{name}.tif", numbers((3, 40, 50), "uint8"))
    (tmp_path / "scenes" / "b.strip").write_text("2021-05-06")
    return tmp_path / "scenes"


def test_its_packages_are_found_beside_other_scenes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [record.kind for record in Catalog.from_folder(folder)] == ["raster"] * 3
    install(tmp_path, monkeypatch, "geoaug.products", "strip", f"{__name__}:Strips")
    catalog = Catalog.from_folder(folder)
    assert {record.id: record.kind for record in catalog} == {"a": "raster", "b": "strip", "c": "raster"}
    assert catalog.column("operator").tolist() == ["a", None, None]
    strips = Catalog.from_folder(folder, kind="strip")
    assert strips.ids == ["b"]
    assert str(strips[0].datetime).startswith("2021-05-06T00:00:00")
    strips.save(tmp_path / "catalog.parquet")
    with TileDataset(Catalog.open(tmp_path / "catalog.parquet"), 32) as dataset:
        np.testing.assert_array_equal(dataset[0]["image"].numpy(), numbers((3, 40, 50), "uint8")[:, :32, :32])


def test_one_that_is_broken_is_left_out_or_raised(folder: Path) -> None:
    (folder / "d.strip").write_text("2021-05-07")
    with pytest.raises(RasterError, match=r"d\.tif: the strip lacks its raster") as caught:
        Catalog.from_folder(folder, kind=Strips())
    assert caught.value.path == str(folder / "d.tif")
    catalog = Catalog.from_folder(folder, kind=Strips(), on_error="skip")
    assert catalog.ids == ["b"]
    assert list(catalog.notes["skipped"]) == [str(folder / "d.tif")]


def test_it_takes_labels_and_is_brought_up_to_date(folder: Path) -> None:
    labels = write_raster(folder.parent / "labels.tif", numbers((1, 40, 50), "uint8"))
    catalog = Catalog.from_folder(folder, kind=Strips(), labels=labels)
    assert catalog[0].mask_path == str(labels)
    again = Catalog.from_folder(folder, kind=Strips(), labels=labels, refresh=catalog)
    assert again.notes["refreshed"]["unchanged"] == 1
    (folder / "b.strip").write_text("2022-05-06 ")
    again = Catalog.from_folder(folder, kind=Strips(), labels=labels, refresh=catalog)
    assert again.notes["refreshed"]["read_again"] == [str(folder / "b.tif")]
    assert str(again[0].datetime).startswith("2022")


def test_an_arrangement_of_loose_files_is_asked_for(folder: Path) -> None:
    assert Catalog.from_folder(folder, kind=LastOfEach()).ids == ["c"]
    assert Catalog.from_files([folder / "b.tif", folder / "a.tif"], kind=LastOfEach()).ids == ["a"]


def test_the_command_line_takes_its_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "catalog.parquet")
    assert main(["index", str(folder), "-o", output, "--kind", "strip"]) == 2
    assert "kind 'strip' is not known; there are auto, sentinel-2" in " ".join(capsys.readouterr().err.split())
    install(tmp_path, monkeypatch, "geoaug.products", "strip", f"{__name__}:Strips")
    install(tmp_path, monkeypatch, "geoaug.products", "sentinel-2", "nowhere:AtAll")  # a built-in name is not taken
    assert main(["index", str(folder), "-o", output, "--kind", "strip"]) == 0
    assert "1 of kind strip" in capsys.readouterr().out
    assert main(["index", "-o", output, "--refresh"]) == 0
    assert "1 unchanged" in capsys.readouterr().out
    assert main(["index", str(folder), "-o", output, "--overwrite", "--kind", "strap"]) == 2
    assert "did you mean 'strip'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "nowhere.at_all:Strips",
            r"the product 'strip' \(nowhere\.at_all:Strips of outside-strip\) cannot be imported",
        ),
        (f"{__name__}:StripSource", "the product 'strip' is <class .*StripSource'>, which is no geoaug.data.Product"),
    ],
)
def test_what_is_no_product_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    install(tmp_path, monkeypatch, "geoaug.products", "strip", value)
    with pytest.raises(ConfigurationError, match=message):
        Catalog.from_folder(folder)


def test_each_built_in_product_goes_by_its_name() -> None:
    for name in PRODUCTS.built_in:
        product = PRODUCTS.named(name)()
        assert isinstance(product, Product)
        assert product.name == name

"""What is written reads back the same, whole or not at all."""

import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from geoaug.errors import ConfigurationError, GeoaugError
from geoaug.io.geotiff import DTYPES, Format, write_geotiff

ROTATED = Affine.translation(399960.0, 4200000.0) * Affine.rotation(23.0) * Affine.scale(10.0, -10.0)


def pixels(dtype: str, shape: tuple[int, ...] = (3, 300, 280)) -> npt.NDArray[Any]:
    return np.random.default_rng(1).integers(0, 120, shape).astype(dtype)


@pytest.mark.parametrize("compress", ["zstd", "deflate", "lzw", "none"])
@pytest.mark.parametrize("format", ["gtiff", "cog"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_and_place_are_read_back_exactly(tmp_path: Path, dtype: str, format: str, compress: str) -> None:
    image = pixels(dtype)
    write_geotiff(
        tmp_path / "a.tif",
        image,
        transform=ROTATED,
        crs="EPSG:32633",
        nodata=7,
        descriptions=["B02", None, "B04"],
        scales=[0.1, 0.1, 0.1],
        offsets=[-1.0, 0.0, 1.0],
        format=format,  # type: ignore[arg-type]
        compress=compress,  # type: ignore[arg-type]
        tags={"geoaug": "yes"},
    )
    with rasterio.open(tmp_path / "a.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), image)
        assert dataset.dtypes[0] == dtype
        assert dataset.transform.almost_equals(ROTATED, 1e-6)
        assert dataset.crs.to_epsg() == 32633
        assert dataset.nodata == 7
        assert dataset.descriptions == ("B02", None, "B04")
        assert dataset.scales == (0.1, 0.1, 0.1)
        assert dataset.offsets == (-1.0, 0.0, 1.0)
        assert dataset.tags()["geoaug"] == "yes"
        assert dataset.block_shapes[0] == (256, 256)
        structure = dataset.tags(ns="IMAGE_STRUCTURE")
        assert structure.get("COMPRESSION", "NONE") == compress.upper()
        assert (structure.get("LAYOUT") == "COG") == (format == "cog")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("format", ["gtiff", "cog"])
def test_a_near_infrared_band_is_not_marked_as_alpha(tmp_path: Path, format: str) -> None:
    image = pixels("uint8", (4, 64, 64))
    write_geotiff(tmp_path / "a.tif", image, transform=ROTATED, crs=None, format=format)  # type: ignore[arg-type]
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert ColorInterp.alpha not in dataset.colorinterp
        assert (dataset.dataset_mask() == 255).all()


@pytest.mark.parametrize("format", ["gtiff", "cog"])
def test_a_mask_keeps_its_palette_and_its_classes_in_overviews(tmp_path: Path, format: str) -> None:
    mask = pixels("uint8", (1200, 1100))
    mask[mask > 3] = 3
    mask[mask == 1] = 0
    palette = {0: (10, 20, 30, 255), 3: (200, 100, 50, 255)}
    write_geotiff(
        tmp_path / "m.tif",
        mask,
        transform=ROTATED,
        crs="EPSG:32633",
        nodata=255,
        format=format,  # type: ignore[arg-type]
        colormap=palette,
    )
    with rasterio.open(tmp_path / "m.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), mask)
        assert {key: dataset.colormap(1)[key] for key in palette} == palette
        overview = dataset.read(1, out_shape=(600, 550))
    assert set(np.unique(overview)) <= {0, 2, 3}


def test_a_raster_without_a_place_is_written_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotGeoreferencedWarning)
        formats: tuple[Format, ...] = ("gtiff", "cog")
        for format in formats:
            write_geotiff(
                tmp_path / "a.tif",
                pixels("uint16"),
                transform=Affine.identity(),
                crs=None,
                format=format,
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(tmp_path / "a.tif") as dataset:
            assert dataset.crs is None
            assert dataset.transform == Affine.identity()


def test_nan_is_a_nodata_value_of_floats(tmp_path: Path) -> None:
    image = pixels("float32")
    image[:, :5] = np.nan
    write_geotiff(tmp_path / "a.tif", image, transform=ROTATED, crs=None, nodata=float("nan"))
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert np.isnan(dataset.nodata)
        np.testing.assert_array_equal(dataset.read(), image)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodata": -9999}, "nodata -9999 is no value of uint16"),
        ({"nodata": float("nan")}, "nodata nan"),
        ({"nodata": float("inf")}, "nodata inf"),
        ({"nodata": 0.5}, "nodata 0.5"),
        ({"descriptions": ["red"]}, "1 descriptions for 3 bands"),
        ({"colormap": {0: (0, 0, 0)}}, "one band of uint8 or uint16"),
        ({"compress": "jpeg"}, "compression 'jpeg'"),
        ({"format": "png"}, "format 'png'"),
    ],
)
def test_what_a_geotiff_cannot_hold_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        write_geotiff(tmp_path / "a.tif", pixels("uint16"), transform=ROTATED, crs=None, **change)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["bool", "int64", "float16", "complex64"])
def test_types_that_are_not_written_are_refused(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"a\.tif: pixels of type {dtype}"):
        write_geotiff(tmp_path / "a.tif", pixels(dtype), transform=ROTATED, crs=None)


def test_a_failed_write_names_the_path_and_keeps_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.tif"
    write_geotiff(target, pixels("uint8"), transform=ROTATED, crs=None)
    before = target.read_bytes()

    def fails(self: Path, other: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(GeoaugError, match=r"a\.tif: cannot be written \(Permission denied\)"):
        write_geotiff(target, pixels("uint8") + 1, transform=ROTATED, crs=None)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GeoaugError, match=r"missing.a\.tif: cannot be written \(No such file or directory\)"):
        write_geotiff(tmp_path / "missing" / "a.tif", pixels("uint8"), transform=ROTATED, crs=None)


@pytest.mark.skipif(sys.platform == "win32", reason="this system cannot limit the size of a file")
def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path: Path) -> None:
    program = f"""
        import resource, signal
        import numpy as np
        from affine import Affine
        from geoaug.errors import GeoaugError
        from geoaug.io.geotiff import write_geotiff
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        image = np.random.default_rng(0).integers(0, 60000, (3, 300, 300)).astype("uint16")
        try:
            write_geotiff({str(tmp_path / "a.tif")!r}, image, transform=Affine.identity(), crs=None)
        except GeoaugError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert "a.tif: cannot be written (File too large)" in done.stdout
    assert not list(tmp_path.iterdir())

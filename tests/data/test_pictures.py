"""Pictures must be comparable between an original and its copies, and show what is not there as not there."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from geoaug.data.pictures.contact_sheet import (
    Composite,
    SheetImage,
    SheetTile,
    Stretch,
    class_colours,
    composite,
    contact_sheet,
    describe_parameters,
    hatching,
    measure_stretch,
    overlay_mask,
    stretch,
)
from geoaug.data.pictures.page import Ruler
from geoaug.errors import ConfigurationError

TRUE_COLOUR = Composite("true colour", (2, 1, 0))


def ramp(count: int = 3, height: int = 20, width: int = 30) -> np.ndarray[Any, np.dtype[np.uint16]]:
    values = np.arange(height * width).reshape(height, width)
    return np.stack([1000 + 10 * band + values for band in range(count)]).astype(np.uint16)


def tile(copies: int = 2, *, mask: bool = True, size: int = 32, parameters: dict[str, Any] | None = None) -> SheetTile:
    rng = np.random.default_rng(1)
    images = [
        SheetImage(
            rng.integers(200, 4000, (4, size, size)).astype(np.uint16),
            np.ones((size, size), dtype=bool),
            rng.integers(0, 3, (size, size)).astype(np.uint8) if mask else None,
            (parameters or {}) if number else {},
        )
        for number in range(1 + copies)
    ]
    return SheetTile(images[0], tuple(images[1:]), "scene, row 0, column 0")


def test_a_stretch_spans_the_percentiles_of_each_channel() -> None:
    image = ramp()
    measured = measure_stretch(image, low=2, high=98)
    for band in range(3):
        assert measured.low[band] == pytest.approx(np.percentile(image[band], 2))
        assert measured.high[band] == pytest.approx(np.percentile(image[band], 98))
    shown = stretch(image)
    assert shown.shape == (20, 30, 3)
    assert shown.dtype == np.float32
    assert np.mean(shown == 0) == pytest.approx(0.02, abs=0.005)
    assert np.mean(shown == 1) == pytest.approx(0.02, abs=0.005)


def test_invalid_pixels_neither_move_the_stretch_nor_are_shown() -> None:
    image = ramp()
    valid = np.ones(image.shape[1:], dtype=bool)
    valid[:5] = False
    spoilt = image.copy()
    spoilt[:, :5] = 65535
    np.testing.assert_array_equal(stretch(spoilt, valid)[5:], stretch(image[:, 5:]))
    np.testing.assert_array_equal(stretch(spoilt, valid)[:5], hatching(valid.shape)[:5])


def test_nan_is_treated_as_invalid() -> None:
    image = ramp().astype(np.float32)
    image[1, 3, 4] = np.nan
    shown = stretch(image)
    assert np.isfinite(shown).all()
    np.testing.assert_array_equal(shown[3, 4], hatching((20, 30))[3, 4])
    assert np.isfinite(measure_stretch(image).high).all()


def test_a_shared_stretch_keeps_a_change_of_brightness_visible() -> None:
    image = ramp()
    reference = measure_stretch(image)
    brighter = composite(image + 200, (0, 1, 2), reference=reference)
    assert brighter.mean() > composite(image, (0, 1, 2), reference=reference).mean() + 0.2
    assert composite(image + 200, (0, 1, 2)).mean() == pytest.approx(composite(image, (0, 1, 2)).mean(), abs=1e-3)


def test_a_constant_or_wholly_invalid_image_has_a_stretch() -> None:
    constant = np.full((3, 4, 4), 7, dtype=np.uint16)
    assert np.isfinite(stretch(constant)).all()
    nothing = np.zeros((4, 4), dtype=bool)
    np.testing.assert_array_equal(stretch(constant, nothing), hatching((4, 4)))


def test_one_band_is_shown_in_grey() -> None:
    shown = composite(ramp(2), (1,))
    assert shown.shape == (20, 30, 3)
    np.testing.assert_array_equal(shown[..., 0], shown[..., 2])


@pytest.mark.parametrize("bands", [(0, 1, 3), (-1, 0, 1), (0, 1), ()])
def test_bands_that_are_not_there_are_refused(bands: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match="band"):
        composite(ramp(3), bands)


def test_a_stretch_for_other_channels_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="3 channels"):
        Stretch((0.0,), (1.0,)).apply(ramp(3))


def test_a_mask_tints_its_classes_and_leaves_the_rest() -> None:
    rgb = np.full((2, 3, 3), 0.5, dtype=np.float32)
    mask = np.array([[0, 1, 255], [1, 1, 7]])
    shown = overlay_mask(rgb, mask, {0: (1, 0, 0), 1: (0, 0, 1), 255: (0, 1, 0)}, ignore_index=255, alpha=0.4)
    np.testing.assert_allclose(shown[0, 0], (0.7, 0.3, 0.3), atol=1e-6)
    np.testing.assert_allclose(shown[1, 1], (0.3, 0.3, 0.7), atol=1e-6)
    np.testing.assert_array_equal(shown[0, 2], rgb[0, 2])
    np.testing.assert_array_equal(shown[1, 2], rgb[1, 2])
    assert (rgb == 0.5).all()


def test_class_colours_are_told_apart() -> None:
    colours = np.array(class_colours(30))
    assert colours.min() >= 0
    assert colours.max() <= 1
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=2) + np.eye(30)
    assert apart.min() > 0.06
    assert class_colours(5) == class_colours(30)[:5]


def test_drawn_parameters_become_short_lines() -> None:
    lines = describe_parameters(
        {
            "RandomRotation": {"degrees": 12.3456},
            "RandomD4": {"symmetry": 3},
            "RandomIllumination#2": {"gain": 1.1, "band_gain": [0.98, 1.0, 1.02, 1.0125]},
            "RandomSensorNoise": {"factor": [0.5] * 13},
            "RandomBandDropout": {"dropped": [0.0, 1.0, 0.0, 0.0]},
            "kornia.RandomGaussianBlur": {"sigma": [0.25, 0.5], "matrix": [[1.0, 0.0], [0.0, 1.0]]},
            "RandomHorizontalFlip": {},
        }
    )
    assert lines == [
        "Rotation degrees 12.3",
        "D4 symmetry 3",
        "Illumination#2 gain 1.1, band gain 0.98…1.02",
        "SensorNoise factor 0.5",
        "BandDropout dropped 1 of 4",
        "GaussianBlur sigma 0.25 / 0.5",
        "HorizontalFlip",
    ]


@pytest.mark.parametrize("words", ["one two three four five six", "an_unbroken_word_" * 6, "", "costs $5 and $6"])
def test_wrapped_lines_fit_their_room_and_lose_nothing(words: str) -> None:
    ruler = Ruler()
    lines = ruler.wrap(words, 7, 1.0)
    assert all(ruler.width(line, 7) <= 1.0 for line in lines)
    assert "".join(lines).replace(" ", "") == words.replace(" ", "")


@pytest.mark.parametrize("room", [0.1, 0.5, 0.8, 1.5, 9.0])
def test_a_line_fits_its_room_and_keeps_both_ends(room: float) -> None:
    ruler = Ruler()
    line = ruler.fit("at scene_with_a_long_name · 12, 34", 7, room, name="scene_with_a_long_name")
    assert ruler.width(line, 7) <= room
    assert line == "…" or line[0] == "a" or room == 0.1
    assert room < 0.8 or (line.startswith("at s") and line.endswith("e · 12, 34"))
    assert ("…" in line) == (room < 9)


def test_a_sheet_is_written_whole_and_nothing_is_clipped(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sheet.png"
    parameters = {f"RandomOperation{n}": {"long_parameter_name": 0.123456, "another": [1.0, 2.0]} for n in range(6)}
    contact_sheet(
        [tile(3, parameters=parameters), tile(1)],
        path,
        composites=[TRUE_COLOUR, Composite("grey", (3,))],
        class_names={0: "water", 1: "a class with quite a long name", 2: "forest"},
        title="A title that is longer than the page is wide, " * 4,
    )
    sheet = imread(path)[..., :3]
    assert sheet.shape[0] > sheet.shape[1] / 2
    edge = 8
    for border in (sheet[:edge], sheet[-edge:], sheet[:, :edge], sheet[:, -edge:]):
        np.testing.assert_array_equal(border, 1.0)
    assert [entry.name for entry in path.parent.iterdir()] == ["sheet.png"]


def test_masks_add_a_row_and_captions_add_height(tmp_path: Path) -> None:
    def height(shown: SheetTile) -> int:
        contact_sheet([shown], tmp_path / "sheet.png", composites=[TRUE_COLOUR])
        return int(imread(tmp_path / "sheet.png").shape[0])

    bare = height(tile(mask=False))
    assert height(tile(mask=True)) > bare + 250
    assert bare < height(tile(mask=False, parameters={"RandomRotation": {"degrees": 1.0}})) < bare + 60


def test_invalid_pixels_are_hatched_on_the_sheet(tmp_path: Path) -> None:
    image = np.zeros((3, 32, 32), dtype=np.uint16)
    image[0] = np.arange(32)[:, None]
    image[1] = 32 - np.arange(32)
    nothing = SheetImage(image, np.zeros((32, 32), dtype=bool))
    contact_sheet([SheetTile(nothing, ())], tmp_path / "sheet.png", composites=[TRUE_COLOUR])
    sheet = imread(tmp_path / "sheet.png")[..., :3]
    middle = sheet[sheet.shape[0] // 2 - 50 : sheet.shape[0] // 2 + 50, 100:200]
    assert np.ptp(middle, axis=2).max() < 0.01
    assert 0.55 < middle.min() < middle.max() < 0.8


def test_impossible_sheets_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    with pytest.raises(ConfigurationError, match="at least one tile"):
        contact_sheet([], path, composites=[TRUE_COLOUR])
    with pytest.raises(ConfigurationError, match="4 bands"):
        contact_sheet([tile()], path, composites=[Composite("wrong", (9, 1, 0))])
    with pytest.raises(ConfigurationError, match="too large"):
        contact_sheet([tile(0, size=16)] * 300, path, composites=[TRUE_COLOUR])
    with pytest.raises(ConfigurationError, match="one or three"):
        Composite("two", (0, 1))
    assert not path.exists()


@pytest.mark.slow
def test_pictures_need_neither_torch_nor_pyplot() -> None:
    heavy = "[m for m in ('torch', 'matplotlib.pyplot') if m in sys.modules]"
    code = f"import sys, geoaug.data.pictures.contact_sheet; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_colours_of_an_original_do_not_depend_on_its_copies(tmp_path: Path) -> None:
    shown = tile(1, mask=False)
    [copy] = shown.copies
    spoilt = copy.image.copy()
    spoilt[2] = 0
    spoilt[0] = 20000

    def first_picture(other: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        sheet = SheetTile(shown.original, (SheetImage(other, copy.valid),))
        contact_sheet([sheet], tmp_path / "sheet.png", composites=[TRUE_COLOUR])
        pixels = imread(tmp_path / "sheet.png")
        return np.asarray(pixels[:, : pixels.shape[1] // 2])

    np.testing.assert_array_equal(first_picture(spoilt), first_picture(copy.image))

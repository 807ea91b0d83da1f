"""Recipes: what they say comes true, and mistakes are reported with their place."""

from pathlib import Path

import pytest
import torch
import yaml
from kornia.augmentation import MixAugmentationBaseV2

from geoaug import get_sensor, load_recipe
from geoaug.augment import RandomAffine, RandomD4, RandomRotation, available_recipes
from geoaug.augment.recipe import preset_text
from geoaug.augment.registry import own_operations, stock_operations
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys

PRESETS = [
    "light",
    "standard",
    "strong",
    "robust",
    "sentinel-2-classification",
    "sentinel-2-segmentation",
    "landsat",
    "sentinel-1",
    "aerial-rgb",
]

GOOD = """\
# a comment
sensor: sentinel-2-l2a
size: 24
operations:
  - RandomD4
  - RandomRotation: {degrees: 20, p: 0.8}
  - RandomHaze:
      aod: [0.0, 0.3]
  - kornia.RandomGaussianBlur: {kernel_size: [3, 3], sigma: [0.1, 1.0]}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_a_recipe_becomes_the_operations_it_names(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, GOOD))
    assert [type(operation).__name__ for operation in recipe.operations] == [
        "RandomD4",
        "RandomRotation",
        "RandomHaze",
        "RandomGaussianBlur",
    ]
    rotation = recipe.operations[1]
    assert isinstance(rotation, RandomRotation)
    assert rotation.degrees == (-20.0, 20.0)
    assert rotation.p == 0.8
    compose = recipe.compose()
    assert compose.sensor is not None
    assert compose.sensor.name == "sentinel-2-l2a"
    out = compose({"image": torch.randint(0, 9999, (2, 12, 32, 32)).to(torch.uint16)})
    assert out["image"].shape == (2, 12, 24, 24)
    assert recipe.compose(sensor="sentinel-2-l1c", size=None).size is None


def test_the_resolved_recipe_is_the_same_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, GOOD))
    again = load_recipe(written(tmp_path, recipe.to_yaml()))
    assert again.specs == recipe.specs
    assert (again.sensor, again.size) == (recipe.sensor, recipe.size)
    batch = {"image": torch.randint(0, 9999, (2, 12, 32, 32)).to(torch.uint16), "key": sample_keys(0, range(2))}
    assert torch.equal(recipe.compose()(batch)["image"], again.compose()(batch)["image"])
    assert load_recipe(recipe.resolved()).specs == recipe.specs


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_listed_explained_and_round_trip(name: str, tmp_path: Path) -> None:
    summaries = {item.name: item.summary for item in available_recipes()}
    assert list(summaries) == PRESETS
    assert len(summaries[name]) > 20
    assert load_recipe(written(tmp_path, preset_text(name))).specs == load_recipe(name).specs
    assert load_recipe(load_recipe(name)) == load_recipe(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "sensor"),
    [
        ("sentinel-2-classification", "sentinel-2-l1c"),
        ("sentinel-2-classification", "sentinel-2-l2a"),
        ("sentinel-2-segmentation", "sentinel-2-l2a"),
        ("landsat", "landsat-8-l1"),
        ("landsat", "landsat-9-l2"),
        ("sentinel-1", "sentinel-1-grd"),
        ("sentinel-1", "sentinel-1-power"),
        ("sentinel-1", "sentinel-1-db"),
        ("aerial-rgb", "rgb"),
        ("aerial-rgb", "rgbn"),
    ],
)
def test_presets_of_a_sensor_keep_its_images_believable(preset: str, sensor: str) -> None:
    known = get_sensor(sensor)
    generator = torch.Generator().manual_seed(0)
    power = 0.05 + 0.3 * torch.rand(32, len(known.bands), 8, 8, generator=generator)
    value = torch.nn.functional.interpolate(power, size=64, mode="bilinear")
    if known.quantity == "db":
        value = 10 * value.log10()
    scale, offset = (torch.tensor(part)[:, None, None] for part in (known.quantification, known.offset))
    batch = {"image": value * scale - offset, "key": sample_keys(0, range(32))}
    out = load_recipe(preset).compose(sensor=known)(batch)
    image = out["image"][out["valid"].expand_as(out["image"])]
    assert torch.isfinite(image).all()
    # Reflectance and power stay where the world has them; medians move by less than a third.
    assert float(image.quantile(0.001) if len(image) < 10**7 else image.min()) > -0.05
    before = power if known.quantity != "amplitude" else power.square()
    for band in range(len(known.bands)):
        kept = out["image"][:, band][out["valid"][:, 0]]
        if known.bands[band].name not in ("B09", "B10", "B9"):
            assert 0.6 < float(kept.median() / before[:, band].median()) < 1.5, known.bands[band].name
    again = load_recipe(preset).compose(sensor=known, out_units="dn")(batch)["image"]
    assert torch.isfinite(again).all()


def test_every_operation_can_be_named_in_a_recipe() -> None:
    arguments = {
        "RandomRotation": {"degrees": 5},
        **{name: {"size": 8} for name in ("RandomCrop", "CenterCrop", "PadTo", "Resize", "RandomResizedCrop")},
    }
    import geoaug.augment

    exported = {name: getattr(geoaug.augment, name) for name in geoaug.augment.__all__}
    listed = {n: kind for n, kind in exported.items() if hasattr(kind, "draw") or hasattr(kind, "choose")}
    bases = {"GeometricOperation", "RadiometricOperation", "StencilOperation"}
    operations = {n for n, kind in listed.items() if not issubclass(kind, MixAugmentationBaseV2)} - bases
    assert set(own_operations()) == operations
    for name in own_operations():
        [operation] = load_recipe({"operations": [{name: arguments.get(name, {})}]}).operations
        assert type(operation).__name__ == name
    assert "kornia.RandomAffine" in stock_operations()


MISTAKES = [
    (
        "operations:\n  - RandomD4\n  - RandomRotaton: {degrees: 5}\n",
        ":3: 'RandomRotaton' is not an operation",
        "RandomRotation",
    ),
    ("operations:\n  - RandomMixUp\n", ":2: 'RandomMixUp' mixes the samples of a batch", "after the recipe"),
    ("operations:\n  - RandomRotation: {degree: 5}\n", ":2: RandomRotation has no argument 'degree'", "'degrees'"),
    ("operations:\n  - RandomRotation\n", ":2: RandomRotation: degrees: field required", ""),
    (
        "operations:\n  - RandomHaze:\n      p: 0.5\n      aod: [0.5, 0.1]\n",
        ":4: RandomHaze: aod=[0.5, 0.1]",
        "increasing",
    ),
    ("operations:\n  - RandomHaze:\n      aod: [0.1, 900]\n", ":3: RandomHaze: aod=", "within [0, 5]"),
    ("operations:\n  - RandomHaze: {aod: thick}\n", ":2: RandomHaze: aod", "'thick'"),
    ("operations:\n  - RandomD4: {p: 3}\n", ":2: RandomD4: p is a probability", ""),
    ("operations:\n  - RandomBandDropout: {max_bands: 1.5}\n", ":2: RandomBandDropout: max_bands", "1.5"),
    ("operations:\n  - GaussianBlur\n", ":2: 'GaussianBlur' is not an operation", "kornia.RandomGaussianBlur"),
    ("operations:\n  - RandomGaussianBlur\n", ":2: 'RandomGaussianBlur' is kornia's", "kornia.RandomGaussianBlur"),
    ("operations:\n  - kornia.RandomGaussianBlur: {kernel_size: 3}\n", ":2: kornia.RandomGaussianBlur", "sigma"),
    ("operations:\n  - kornia.RandomRotation: {degrees: 900}\n", ":2: kornia.RandomRotation", ""),
    ("sensr: x\noperations: []\n", ":1: unknown key 'sensr'", "did you mean 'sensor'"),
    ("size: [1, 2, 3]\noperations: []\n", ":1: size", ""),
    ("sensor: rgb\n", "operations", "required"),
    ("operations:\n  - {RandomD4: {}, RandomHaze: {}}\n", ":2: one operation to an entry, not 2", "RandomHaze"),
    ("operatons: [RandomD4]\n", ":1: unknown key 'operatons'", "did you mean 'operations'"),
    ("size: 0\noperations: []\n", ":1: size is a number of pixels", "at least 1"),
    ("operations: []\nsensor: sentinel-3\n", ":2: ", "sentinel-2"),
    ("operations:\n  - RandomAffine: {translate: [0.1]}\n", ":2: RandomAffine: translate=[0.1] is a pair", ""),
    ("operations:\n  - RandomRotation: {degrees: 5, degrees: 9}\n", ":2: 'degrees' stands here twice", ""),
    ("operations:\n  - kornia.CenterCrop: {size: [8]}\n", ":2: kornia.CenterCrop", ""),
    ("operations: &a [*a]\n", "an operation is its name", ""),
    ("operations:\n  - 5\n", ":2: ", "an operation is its name"),
    ("operations: [RandomD4\n", "not YAML", ""),
    ("- RandomD4\n", "a recipe is a mapping", ""),
]


@pytest.mark.parametrize(("text", "place", "hint"), MISTAKES)
def test_a_mistake_is_reported_with_its_place_and_a_hint(tmp_path: Path, text: str, place: str, hint: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert place in message
    assert hint in message
    assert "\n" not in message


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'standard'"):
        load_recipe("standart")
    with pytest.raises(ConfigurationError, match="presets are light, standard, strong"):
        load_recipe("/nowhere/x.yaml")


def test_presets_are_written_as_people_write() -> None:
    content = yaml.safe_load(load_recipe("standard").to_yaml())
    assert content["operations"][1]["RandomAffine"]["scale"] == [0.87, 1.15]
    assert load_recipe("standard").to_yaml().count("\n") == 3 + len(content["operations"])
    assert isinstance(load_recipe("light").operations[0], RandomD4)
    assert isinstance(load_recipe("strong").operations[1], RandomAffine)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
        if "operations" in yaml.safe_load(path.read_text(encoding="utf-8"))  # others are trainings
    ],
    ids=lambda path: path.name,
)
def test_every_example_runs(path: Path) -> None:
    recipe = load_recipe(path)
    compose = recipe.compose()
    assert compose.sensor is not None
    bands = len(compose.sensor)
    out = compose({"image": torch.randint(1, 9999, (2, bands, 32, 32)).to(torch.uint16)})
    assert out["image"].isfinite().all()

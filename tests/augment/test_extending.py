"""Operations of another package: as good as geoaug's own in `Compose`, recipes, replay and the command line."""

import inspect
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pyproj import Geod
from scipy import ndimage

from geoaug import Compose, get_sensor, load_recipe
from geoaug.augment import RandAugment, RandomHaze, RandomPointSpread, RandomSensorNoise, needed_packages
from geoaug.augment.kernels.executors import compiled_sources
from geoaug.augment.planning.plan import Plan
from geoaug.errors import ConfigurationError
from geoaug.packages import package_of
from geoaug.rng.draws import sample_keys

PACKAGE = '''
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import kornia.augmentation as K
import torch
import torch.nn.functional as F
from torch import Tensor

from geoaug.augment import (
    GeometricOperation, GeometricOptions, RadiometricOperation, RadiometricOptions, StencilKernel, StencilOperation,
    Terms, as_range,
)
from geoaug.augment.planning.maps import TileMap
from geoaug.augment.planning.segments import Affine, Modulation


class RandomSnow(RadiometricOperation):
    """Snow: part of every pixel becomes as bright as snow."""

    domain = None
    neutral = {"depth": 0.0}

    def __init__(self, depth: float | Sequence[float] = (0.1, 0.5), **options: Unpack[RadiometricOptions]) -> None:
        super().__init__(**options)
        self.depth = as_range(depth, "depth", low=0, high=1)
        self.flags = {"depth": self.depth}

    def draw(self, draws, shape):
        return {"depth": draws.uniform(*self.depth)}

    def terms(self, params, shape):
        covered = params["depth"][:, None].expand(-1, shape.bands)
        return Terms(1 - covered, 0.9 * covered)


class RandomNudge(GeometricOperation):
    """A move by whole pixels."""

    def __init__(self, reach: int = 4, **options: Unpack[GeometricOptions]) -> None:
        super().__init__(**options)
        self.reach = reach
        self.flags = {"reach": reach}

    def draw(self, draws, shape):
        return {"right": draws.integer(2 * self.reach + 1) - self.reach}

    def matrix(self, params, shape):
        matrix = torch.eye(3, dtype=torch.float64, device=shape.device).repeat(shape.batch, 1, 1)
        matrix[:, 0, 2] = params["right"]
        return matrix


@dataclass(frozen=True, slots=True)
class Darkest(StencilKernel):
    """The least valid value within `reach` pixels, mixed with the pixel's own by `share`."""

    share: Tensor
    reach: int

    def apply(self, values, valid):
        known = torch.where(valid, values, torch.inf)
        least = -F.max_pool2d(-known, 2 * self.reach + 1, stride=1, padding=self.reach)
        return torch.lerp(values, least, self.share[:, None, None, None])


class RandomErosion(StencilOperation):
    """Dark things grow."""

    domain = None

    def __init__(self, reach: int = 1, **options: Unpack[RadiometricOptions]) -> None:
        super().__init__(**options)
        self.reach = reach
        self.flags = {"reach": reach}

    def draw(self, draws, shape):
        return {"share": 0.5 + 0.5 * draws.uniform()}

    def kernel(self, params, shape):
        return Darkest(params["share"], self.reach)


@dataclass(frozen=True, slots=True)
class Checks(TileMap):
    """1 and 0 like a chessboard's fields of `side` pixels."""

    seed: Tensor
    side: int

    def make(self, size, surroundings):
        rows, columns = (torch.arange(count, device=self.seed.device) // self.side for count in size)
        board = (rows[:, None] + columns + self.seed[:, None, None]) % 2
        return board[:, None].float()


class RandomChecks(RadiometricOperation):
    """Darker in every second field."""

    domain = None

    def draw(self, draws, shape):
        return {"seed": draws.integer(2)}

    def segments(self, params, shape):
        one = torch.ones(shape.batch, shape.bands, dtype=torch.float64, device=shape.device)
        every = torch.ones(shape.batch, dtype=torch.bool, device=shape.device)
        change = Modulation(Checks(params["seed"].long(), 5), -0.5 * one[..., None], None, every)
        return (Affine(Terms.nothing_to(one), change),)


class RandomNegative(K.IntensityAugmentationBase2D):
    """Built on kornia's base class alone."""

    def apply_transform(self, input, params, flags, transform=None):
        return 1 - input


class NotAnOperation:
    pass
'''

_TRITON = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="none")]
EXECUTORS = ["torch", pytest.param("cpu", marks=pytest.mark.slow), pytest.param("triton", marks=_TRITON)]
DEVICE = {"torch": "cpu", "cpu": "cpu", "triton": "cuda" if torch.cuda.is_available() else "cpu"}


def install(folder: Path, version: str = "1.2.0", entry_points: str = "RandomSnow = mylab:RandomSnow") -> None:
    """A package `mylab` of the distribution `my-lab`, as pip would leave it."""
    (folder / "mylab").mkdir(exist_ok=True)
    (folder / "mylab" / "__init__.py").write_text(PACKAGE)
    (folder / "mylab" / "broken.py").write_text("import there_is_no_such_module\n")
    notes = folder / f"my_lab-{version}.dist-info"
    notes.mkdir(exist_ok=True)
    (notes / "METADATA").write_text(f"Metadata-Version: 2.1\nName: my-lab\nVersion: {version}\n")
    (notes / "top_level.txt").write_text("mylab\n")
    (notes / "entry_points.txt").write_text(f"[geoaug.operations]\n{entry_points}\n")


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mylab", "otherlab")]:
        del sys.modules[name]
    package_of.cache_clear()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package can be imported, and nobody has."""
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield tmp_path
    forget()


@pytest.fixture
def mylab(installed: Path) -> ModuleType:
    import mylab  # type: ignore[import-not-found]

    return mylab  # type: ignore[no-any-return]


def tiles(samples: int = 4, bands: int = 4, side: int = 24) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(samples)
    valid = torch.ones(samples, 1, side, side, dtype=torch.bool)
    valid[..., 5:9, 7:12] = False
    image = torch.rand(samples, bands, side, side, generator=generator)
    return {"image": image, "valid": valid, "key": sample_keys(0, range(samples))}


def on(device: str, batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value.to(device) for name, value in batch.items()}


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("name", ["RandomSnow", "RandomNudge", "RandomErosion", "RandomChecks", "RandomNegative"])
def test_every_executor_runs_operations_of_others(name: str, executor: str, mylab: ModuleType) -> None:
    batch, device = tiles(), DEVICE[executor]
    compose = Compose([getattr(mylab, name)(p=1.0)], executor=executor)  # type: ignore[arg-type]
    plan = compose.plan(batch)
    out = {key: value.cpu() for key, value in compose.apply(on(device, batch), plan).items()}
    image, valid = batch["image"].numpy(), batch["valid"].numpy()
    params = plan.drawn[0].params
    wanted, good = image, valid
    if name == "RandomSnow":
        depth = params["depth"].numpy()[:, None, None, None]
        wanted = (1 - depth) * image + depth * 0.9
    elif name == "RandomNudge":
        assert len(set(params["right"].tolist())) > 1
        wanted, good = (np.zeros_like(part) for part in (image, valid))
        for row, right in enumerate(params["right"].long().tolist()):
            here, there = slice(max(right, 0), 24 + min(right, 0)), slice(max(-right, 0), 24 - max(right, 0))
            wanted[row, ..., here], good[row, ..., here] = image[row, ..., there], valid[row, ..., there]
    elif name == "RandomErosion":
        known = np.where(valid, image, np.inf)
        least = ndimage.minimum_filter(known, size=(1, 1, 3, 3), mode="constant", cval=np.inf)
        share = params["share"].numpy()[:, None, None, None]
        with np.errstate(invalid="ignore"):
            wanted = (1 - share) * image + share * least
    elif name == "RandomChecks":
        y, x = np.indices((24, 24)) // 5
        dark = (y + x + params["seed"].numpy()[:, None, None]) % 2
        wanted = image * (1 - 0.5 * dark[:, None])
    else:
        wanted = 1 - image
    assert np.array_equal(out["valid"].numpy(), good)
    difference = np.where(good, out["image"].numpy() - wanted, 0.0)
    assert np.abs(difference).max() < 1e-6


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_stencil_of_others_stands_among_other_operations_and_dates(executor: str, mylab: ModuleType) -> None:
    operations = [
        RandomHaze((0.2, 0.3), p=1.0),
        mylab.RandomErosion(p=0.6),
        RandomSensorNoise((2, 2), p=0.7),
        RandomPointSpread(p=0.6),
        mylab.RandomErosion(reach=2, p=0.6),
        mylab.RandomNudge(p=1.0),
    ]
    batch = tiles(3)
    series = {**batch, "image": torch.stack((batch["image"], batch["image"] * 0.7), 1)}
    for given in (batch, series):
        compose = Compose(operations, "rgbn", executor="torch", out_units="reflectance")
        given = {**given, "image": given["image"] * 255}
        plan = compose.plan(given)
        plain = compose.apply(given, plan)
        compose.executor = executor  # type: ignore[assignment]
        out = compose.apply(on(DEVICE[executor], given), plan)
        assert torch.equal(plain["valid"], out["valid"].cpu())
        assert (plain["image"] - out["image"].cpu()).abs().max() < 1e-4
        # Whoever shares a batch with a sample changes nothing in it.
        alone = compose({name: value[1:2].to(DEVICE[executor]) for name, value in given.items()})
        assert torch.equal(alone["image"], out["image"][1:2])


def test_plans_of_others_are_read_back_and_done_again(mylab: ModuleType) -> None:
    compose = Compose([mylab.RandomErosion(), mylab.RandomChecks(), mylab.RandomSnow(), RandomPointSpread()])
    batch = tiles(6)
    plan = compose.plan(batch)
    text = json.dumps(plan.to_dict())
    again = Plan.from_dict(json.loads(text))
    assert json.dumps(again.to_dict()) == text
    assert torch.equal(compose.apply(batch, plan)["image"], compose.apply(batch, again)["image"])
    records = plan.to_dict()["drawn"]
    assert [record["name"] for record in records][:1] == ["mylab.RandomErosion"]
    assert [record.get("package") for record in records] == [["my-lab", "1.2.0"]] * 3 + [None]
    assert any("mylab.RandomSnow" in row for row in plan.parameters())


def test_a_plan_with_parts_that_nobody_imported_says_what_to_import() -> None:
    record = {"kind": "elsewhere.filters:Median", "reach": 1}
    stage = {"matrix": {"dtype": "float64", "values": np.eye(3)[None].tolist()}, "size": [4, 4], "most_places": 1}
    stage |= {"segments": [{"kind": "Stencil", "kernel": record, "applied": {"dtype": "bool", "values": [True]}}]}
    stage |= {"band_shift": None}
    plan = {"key": [1], "context": 0, "keeps_place": True, "stages": [stage], "drawn": []}
    with pytest.raises(ConfigurationError, match=r"import elsewhere\.filters before"):
        Plan.from_dict(plan)
    assert "elsewhere" not in sys.modules


DOTTED = """\
operations:
  - RandomD4
  - mylab.RandomErosion: {reach: 2, p: 1}
  - TrivialAugment: {operations: [RandomIllumination, mylab.RandomSnow]}
"""


def test_a_recipe_imports_nothing_by_itself(installed: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"mine.yaml:3: 'mylab.RandomErosion' is from a module that has not"):
        load_recipe(written(installed, DOTTED))
    assert "mylab" not in sys.modules
    nested = written(installed, "operations: [{RandAugment: {count: 1, operations: [mylab.RandomSnow]}}]\n")
    with pytest.raises(ConfigurationError, match="GEOAUG_IMPORTS=mylab"):
        load_recipe(nested)
    assert "mylab" not in sys.modules


def in_python(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_recipe(recipe, imports=["mylab"])


def by_environment(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GEOAUG_IMPORTS", "numpy, mylab")
    return load_recipe(recipe)


def imported_before(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import mylab  # noqa: F401

    return load_recipe(recipe)


@pytest.mark.parametrize("allowed", [in_python, by_environment, imported_before])
def test_dotted_names_are_found_where_the_user_says_so(
    allowed: Callable[[Path, pytest.MonkeyPatch], Any], installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = allowed(written(installed, DOTTED), monkeypatch)
    names = [f"{type(each).__module__}.{type(each).__name__}" for each in recipe.operations]
    assert names[1] == "mylab.RandomErosion"
    assert needed_packages(recipe) == {"my-lab": "1.2.0"}
    content = yaml.safe_load(recipe.to_yaml())
    assert content["packages"] == {"my-lab": "1.2.0"}
    assert content["operations"][1] == {"mylab.RandomErosion": {"reach": 2, "p": 1.0}}
    again = load_recipe(written(installed, recipe.to_yaml()), imports=["mylab"])
    assert again.specs == recipe.specs
    batch = tiles(sensor_bands())
    one, two = (each.compose(sensor="rgbn")(batch)["image"] for each in (recipe, again))
    assert torch.equal(one, two)


def sensor_bands() -> int:
    return len(get_sensor("rgbn").bands)


def test_an_entry_point_is_an_operation_by_its_short_name(installed: Path) -> None:
    recipe = load_recipe({"operations": [{"RandomSnow": {"depth": 0.3, "p": 1}}]})
    [snow] = recipe.operations
    assert type(snow).__module__ == "mylab"
    assert recipe.resolved()["packages"] == {"my-lab": "1.2.0"}
    with pytest.raises(ConfigurationError, match="did you mean RandomSnow"):
        load_recipe({"operations": ["RandomSnwo"]})
    policy = RandAugment(1, operations=["RandomSnow"])
    assert policy.arguments()["operations"] == ["mylab.RandomSnow"]


def test_two_packages_that_offer_one_name_are_told_apart(installed: Path) -> None:
    other = installed / "other_lab-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other-lab\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[geoaug.operations]\nRandomSnow = otherlab:RandomSnow\n")
    with pytest.raises(ConfigurationError, match=r"several packages: name one of mylab.RandomSnow, otherlab.Random"):
        load_recipe({"operations": ["RandomSnow"]})


def test_another_version_than_the_recipes_is_warned_of(installed: Path) -> None:
    text = "packages: {my-lab: 1.1.0}\noperations: [RandomSnow]\n"
    with pytest.warns(UserWarning, match="written with my-lab 1.1.0, and 1.2.0 is installed"):
        load_recipe(written(installed, text))


MISTAKES = [
    ("nolab.RandomSnow", "there is no module 'nolab' here"),
    ("mylab.nothere.RandomSnow", "there is no module 'mylab.nothere' here"),
    ("mylab.broken.RandomSnow", "importing mylab.broken fails: No module named 'there_is_no_such_module'"),
    ("mylab.RandomSnw", "did you mean mylab.RandomSnow?"),
    ("mylab.NotAnOperation", "'mylab.NotAnOperation' is not an operation: one is a class on the base classes"),
    ("mylab.torch", "is not an operation"),
    ({"mylab.RandomSnow": {"dept": 0.3}}, "mylab.RandomSnow has no argument 'dept'; did you mean 'depth'?"),
    ({"mylab.RandomSnow": {"depth": "thick"}}, "mylab.RandomSnow: depth: "),
    ({"mylab.RandomSnow": {"depth": 2}}, "mylab.RandomSnow: depth=2 is not within [0, 1]"),
    ({"mylab.RandomSnow": {"p": 2}}, "mylab.RandomSnow: p is a probability"),
    ({"mylab.RandomNegative": {"q": 1}}, "mylab.RandomNegative has no argument 'q'"),
    ({"mylab.RandomErosion": {"strength": 0.5}}, "RandomErosion is done or not done"),
]


@pytest.mark.parametrize(("operation", "said"), MISTAKES, ids=[str(name) for name, _ in MISTAKES])
def test_mistakes_with_operations_of_others_are_explained(operation: Any, said: str, installed: Path) -> None:
    text = yaml.safe_dump({"operations": ["RandomD4", operation]})
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(written(installed, text), imports=["mylab", "nolab"])
    assert said in str(caught.value)
    assert "mine.yaml:" in str(caught.value)


def test_a_module_that_imports_when_asked_is_not_asked(installed: Path) -> None:
    (installed / "mylab" / "lazy.py").write_text("def __getattr__(name):\n    import there_is_no_such_module\n")
    import mylab.lazy  # noqa: F401

    with pytest.raises(ConfigurationError, match="has no 'RandomSnow'"):
        load_recipe({"operations": ["mylab.lazy.RandomSnow"]})


def test_signatures_have_the_options_of_all_operations(mylab: ModuleType) -> None:
    signature = inspect.signature(mylab.RandomSnow)
    assert list(signature.parameters) == [
        "depth",
        "sensor",
        "p",
        "same_on_batch",
        "keepdim",
        "strength",
        "same_on_time",
    ]
    assert signature.parameters["p"].default == 0.5
    assert signature.parameters["p"].annotation is float
    snow = mylab.RandomSnow()
    # Of an instance it would be that of a call.
    assert "input" in inspect.signature(snow.forward).parameters
    assert not hasattr(snow, "__signature__")
    with pytest.raises(TypeError, match="sam_on_batch"):
        mylab.RandomSnow(sam_on_batch=True)


@pytest.mark.slow
def test_tiles_are_augmented_from_the_command_line(installed: Path) -> None:
    import rasterio
    from affine import Affine

    from geoaug.io import read_manifest

    scene = installed / "scene.tif"
    image = np.random.default_rng(0).integers(1, 9000, (4, 64, 64), dtype=np.uint16)
    grid = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5400000)}
    shape = {"count": 4, "height": 64, "width": 64, "dtype": "uint16"}
    with rasterio.open(scene, "w", driver="GTiff", **shape, **grid) as dataset:
        dataset.write(image)
    recipe = written(installed, "operations: [RandomD4, {mylab.RandomErosion: {p: 1}}, {RandomSnow: {p: 1}}]\n")
    code = "from geoaug.cli.main import run; run()"
    command = [sys.executable, "-c", code, "augment", str(scene), "-o", str(installed / "out"), "--recipe", str(recipe)]
    command += ["--sensor", "sentinel-2-l2a", "--bands", "B02,B03,B04,B08", "--tile", "32", "--copies", "1"]
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "GEOAUG_EXECUTOR": "torch"}
    environment.pop("GEOAUG_IMPORTS", None)
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "GEOAUG_IMPORTS=mylab" in " ".join(refused.stderr.split())
    done = subprocess.run(
        command, env={**environment, "GEOAUG_IMPORTS": "mylab"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kept = yaml.safe_load((installed / "out" / "recipe.yaml").read_text())
    assert kept["packages"] == {"my-lab": "1.2.0"}
    manifest = read_manifest(installed / "out" / "manifest.parquet")
    assert len(manifest) == 4
    assert all("mylab.RandomErosion" in json.dumps(row) for row in manifest["parameters"].tolist())


def test_pixels_in_degrees_are_as_large_as_they_are_on_the_ground() -> None:
    latitudes = torch.tensor([0.0, 45.0, 60.0, -60.0], dtype=torch.float64)
    degrees, side = 1e-4, 24
    transform = torch.zeros(4, 6, dtype=torch.float64)
    transform[:, 0], transform[:, 4], transform[:, 2] = degrees, -degrees, 12.0
    transform[:, 5] = latitudes + degrees * side / 2
    compose = Compose([RandomHaze(p=1.0)], "rgbn")
    seen: list[torch.Tensor] = []

    class Looking(RandomHaze):
        def draw(self, draws: Any, shape: Any) -> Any:
            seen.append(shape.gsd_m)
            return super().draw(draws, shape)

    compose = Compose([Looking(p=1.0)], "rgbn")
    compose.plan({**tiles(4), "transform": transform})
    geod = Geod(ellps="WGS84")
    for found, latitude in zip(seen[0].tolist(), latitudes.tolist(), strict=True):
        east = geod.inv(12.0, latitude, 12.0 + degrees, latitude)[2]
        north = geod.inv(12.0, latitude, 12.0, latitude + degrees)[2]
        assert found == pytest.approx((east * north) ** 0.5, rel=0.005)


def test_numba_caches_by_all_that_it_compiles() -> None:
    names = {path.stem for path in compiled_sources()}
    here = compiled_sources()[0].parent
    decorated = {
        path.stem for path in here.glob("*.py") if "@njit" in path.read_text() or "@intrinsic" in path.read_text()
    }
    assert decorated <= names
    assert "arrays" in names  # whose numbers are compiled in
    assert not names & {"portable", "radiometry", "tritonic", "triton_kernel", "compiled", "executors"}


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(textwrap.dedent(text))
    return path

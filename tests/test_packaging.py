"""The package must install inside its own namespace, its arrows run one way, and its light parts stay light."""

import ast
import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

# From the top of the arrows to their end: a room imports from itself and from rooms with a lower number.
RANKS = {
    "cli": 10,
    "models": 9,
    "audit": 8.5,
    "io": 8,
    "data": 7,
    "augment": 6,
    "statistics": 5,
    **dict.fromkeys(("sensors", "rng", "presets"), 4),
    **dict.fromkeys(("scratch", "small_arrays"), 1),
    **dict.fromkeys(("errors", "keywords", "packages", "processors", "earth", "read_ahead"), 0),
}
# The rooms of `geoaug.data`, from the end of the arrows to their top.
DATA_ROOMS = ("registry", "raster", "labels", "catalog", "sampling", "loading", "pictures", "datamodule", "synthetic")
FOLDERS = {"geoaug": "geoaug", "models": "geoaug.models", "cli": "geoaug.cli"}
GEOSPATIAL = ("rasterio", "geopandas", "pyogrio", "shapely", "fiona")


def module_files(project_root: Path) -> Iterator[tuple[str, Path]]:
    """Every module of the three folders under the name it is installed by."""
    for folder, package in FOLDERS.items():
        for path in sorted((project_root / folder).rglob("*.py")):
            parts = path.relative_to(project_root / folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


@cache
def imported_names(source: str, module: str, *, is_package: bool) -> tuple[tuple[int, str], ...]:
    """Absolute names that a module imports anywhere in it, inside functions too, with their line numbers."""
    return tuple(_imported(source, module if is_package else module.rpartition(".")[0]))


def _imported(source: str, package: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            # `import geoaug` alone says nothing yet: what is taken from it does.
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name != "geoaug")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "geoaug":
            yield node.lineno, f"geoaug.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, importlib.util.resolve_name(node.args[0].value, package)


def room_of(module: str) -> str:
    return module.split(".")[1]


def wrong_arrows(module: str, source: str, *, is_package: bool) -> list[str]:
    here = room_of(module)
    wrong = []
    for line, name in imported_names(source, module, is_package=is_package):
        top, _, rest = name.partition(".")
        if top != "geoaug" or rest == "__version__":
            continue
        there = room_of(name)
        if there != here and RANKS.get(there, 99) >= RANKS.get(here, 0):
            wrong.append(f"{module}, line {line}: {here} imports {name}")
    return wrong


def run_python(code: str, folder: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_module_belongs_to_a_room(project_root: Path) -> None:
    for module, path in module_files(project_root):
        assert module == "geoaug" or room_of(module) in RANKS, f"{path}: give its room a place among the arrows"


def test_one_name_means_one_thing() -> None:
    homes: dict[str, str] = {}
    for room in ("augment", "data", "io", "models"):
        for name in importlib.import_module(f"geoaug.{room}").__all__:
            assert name not in homes, f"{name} is of geoaug.{homes[name]} and of geoaug.{room}"
            homes[name] = room


def test_arrows_run_one_way(project_root: Path) -> None:
    wrong = [
        arrow
        for module, path in module_files(project_root)
        if module != "geoaug"  # the lazy door to the rooms
        for arrow in wrong_arrows(module, path.read_text("utf-8"), is_package=path.name == "__init__.py")
    ]
    assert not wrong, "\n".join(wrong)


def test_each_room_of_data_imports_from_those_below_it(project_root: Path) -> None:
    wrong = []
    for module, path in module_files(project_root):
        if not module.startswith("geoaug.data.") or path.name == "__init__.py":
            continue
        here = DATA_ROOMS.index(module.split(".")[2])
        for line, name in imported_names(path.read_text("utf-8"), module, is_package=False):
            if name.startswith("geoaug.data.") and DATA_ROOMS.index(name.split(".")[2]) > here:
                wrong.append(f"{module}, line {line}: imports {name}")
    assert not wrong, "\n".join(wrong)


def file_arrows(project_root: Path) -> dict[str, set[str]]:
    """Which files each file imports, anywhere in it: in functions and for type checkers, too.

    What a package's `__init__` exports is no arrow to it: a name that is imported from there counts for nothing here.
    """
    files = dict(module_files(project_root))
    arrows: dict[str, set[str]] = {module: set() for module in files}
    for module, path in files.items():
        package = path.name == "__init__.py"
        for _, name in imported_names(path.read_text("utf-8"), module, is_package=package):
            # `from module import name` and `import module` alike: the longest name that is a file.
            there = next((known for known in (name, name.rpartition(".")[0]) if known in files), None)
            if there not in (None, module) and files[there].name != "__init__.py":
                arrows[module].add(there)
    return arrows


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of files of which each imports all others of it by some way."""
    reached: dict[str, set[str]] = {}
    for start in arrows:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            fresh = arrows[waiting.pop()] - seen
            seen |= fresh
            waiting += fresh
        reached[start] = seen
    groups = {
        frozenset(other for other in reached[start] if start in reached[other])
        for start in arrows
        if start in reached[start]
    }
    return sorted(sorted(group) for group in groups)


def test_no_file_imports_itself_by_a_detour(project_root: Path) -> None:
    found = circles(file_arrows(project_root))
    assert not found, "\n".join(" <-> ".join(group) for group in found)


def test_a_circle_of_files_is_seen() -> None:
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"f"}}
    assert circles(arrows) == [["a", "b", "c"], ["f"]]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("geoaug.augment.planning.plan", "from geoaug.data.raster.record import SceneRecord"),
        ("geoaug.augment.planning.plan", "def f():\n    import geoaug.io.geotiff"),
        ("geoaug.data.raster.record", "from geoaug import models"),
        ("geoaug.data.raster.record", "from ...io import geotiff"),
        ("geoaug.data.raster.record", "from geoaug import Compose"),
        ("geoaug.models.networks.stem", "import importlib\nimportlib.import_module('geoaug.cli.main')"),
        ("geoaug.sensors", "from geoaug.rng.draws import sample_keys"),
        ("geoaug.io.geotiff", "import geoaug\ngeoaug.load_recipe('light')"),
        ("geoaug.io.geotiff", "import geoaug.cli.main as main"),
    ],
)
def test_a_wrong_arrow_is_seen(module: str, source: str) -> None:
    assert wrong_arrows(module, source, is_package=False)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("geoaug.cli.preview", "from geoaug.models import predict\nfrom . import main"),
        ("geoaug.data.raster.record", "from .window import Window\nfrom geoaug import errors, sensors"),
        ("geoaug.io.geotiff", "import geoaug\ngeoaug.__version__"),
        ("geoaug.sensors", "from geoaug.sensors.schema import read_sensor\nfrom geoaug.errors import GeoaugError"),
    ],
)
def test_a_right_arrow_is_let_through(module: str, source: str) -> None:
    assert not wrong_arrows(module, source, is_package=False)


def test_augmentation_names_no_geospatial_library(project_root: Path) -> None:
    for module, path in module_files(project_root):
        if module == "geoaug" or RANKS.get(room_of(module), 0) > RANKS["augment"]:
            continue
        light = room_of(module) in ("sensors", "presets", "errors")
        barred = (*GEOSPATIAL, "torch", "kornia") if light else GEOSPATIAL
        for line, name in imported_names(path.read_text("utf-8"), module, is_package=path.name == "__init__.py"):
            assert name.split(".")[0] not in barred, f"{path}, line {line}: imports {name}"


@pytest.mark.slow
def test_augmentation_runs_without_geospatial_libraries(tmp_path: Path) -> None:
    code = f"""
import importlib, os, pkgutil, sys

os.environ["GEOAUG_EXECUTOR"] = "torch"  # what has been compiled elsewhere need not be compiled again

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {GEOSPATIAL!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
try:
    import rasterio
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("rasterio can still be imported")

import geoaug.augment, torch
for found in pkgutil.walk_packages(geoaug.augment.__path__, "geoaug.augment."):
    importlib.import_module(found.name)
from geoaug import load_recipe
compose = load_recipe("standard").compose(sensor="sentinel-2-l2a")
print(tuple(compose({{"image": torch.full((2, 12, 32, 32), 1000, dtype=torch.uint16)}})["image"].shape))
"""
    assert run_python(code, tmp_path) == "(2, 12, 32, 32)"


def test_the_package_itself_loads_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys, geoaug, geoaug.data, geoaug.sensors; print(*sys.modules)"
    loaded = set(run_python(code, tmp_path).split())
    assert not loaded & {"torch", "kornia", "numpy", "matplotlib", *GEOSPATIAL}


@pytest.mark.slow
def test_tiles_are_read_without_the_tables_of_geopandas_and_pandas(tmp_path: Path) -> None:
    saved = tmp_path / "scenes.parquet"
    run_python(
        f"""
from geoaug.data import Catalog, split_by_blocks, survey_catalog
from geoaug.data.synthetic.made_scene import write_scene
made = write_scene({str(tmp_path)!r}, size=256)
catalog = survey_catalog(Catalog.from_files([made.image]), labels=made.labels).catalog
split_by_blocks(catalog, {{"train": 0.7, "test": 0.3}}, block_m=1280).save({str(saved)!r})
""",
        tmp_path,
    )
    code = f"""
import sys
from geoaug.data import BalancedTileSampler, Catalog, LocalityTileSampler, TileDataset, TileLoader
dataset = TileDataset(Catalog.open({str(saved)!r}).split("train"), 32)
for sampler in (LocalityTileSampler(dataset, 4), BalancedTileSampler(dataset, 4)):
    batch = next(iter(TileLoader(dataset, sampler, 4)))
    assert batch["image"].shape[0] == 4
assert "region" in dataset.catalog.table.column_names
print(*sys.modules)
"""
    loaded = set(run_python(code, tmp_path).split())
    heavy = {"geopandas", "pandas", "kornia", "torchvision", "pytorch_lightning", "matplotlib", "scipy"}
    assert not loaded & heavy


def test_a_job_is_checked_without_loading_anything_heavy(tmp_path: Path) -> None:
    code = """
import sys
from geoaug.io.job import AugmentJob
AugmentJob(("scene.tif",), "out").check()
print(*sys.modules)
"""
    assert not set(run_python(code, tmp_path).split()) & {"torch", "kornia", "numpy", "pyarrow", *GEOSPATIAL}


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    if importlib.util.find_spec("geoaug.cli.main") is None:
        pytest.skip("no command line yet")
    code = """
import sys
sys.argv = ["geoaug", "--help"]
from geoaug.cli.main import run
try:
    run()
except SystemExit as done:
    assert not done.code, done.code
print("\\nLOADED", *sys.modules)
"""
    shown, _, loaded = run_python(code, tmp_path).rpartition("LOADED")
    assert "Usage" in shown
    heavy = {"torch", "torchvision", "kornia", "pytorch_lightning", "matplotlib", "pandas", "pyarrow", *GEOSPATIAL}
    assert not set(loaded.split()) & (heavy | {"sklearn", "scipy"})


@pytest.fixture(scope="module")
def distributions(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, built by the declared backend from a copy of the sources."""
    sources = tmp_path_factory.mktemp("sources")
    for folder in FOLDERS:
        copytree(project_root / folder, sources / folder, ignore=ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (sources / name).write_bytes((project_root / name).read_bytes())
    built = tmp_path_factory.mktemp("distributions")
    code = f"from setuptools import build_meta as b; b.build_wheel({str(built)!r}); b.build_sdist({str(built)!r})"
    run_python(code, sources)
    return built


@pytest.mark.slow
def test_the_wheel_holds_one_namespace_and_all_of_it(project_root: Path, distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"geoaug"}
    for module, path in module_files(project_root):
        place = module.replace(".", "/")
        assert (f"{place}/__init__.py" if path.name == "__init__.py" else f"{place}.py") in names
    for folder, package in FOLDERS.items():
        for path in [*(project_root / folder).rglob("*.yaml"), *(project_root / folder).rglob("py.typed")]:
            relative = path.relative_to(project_root / folder).as_posix()
            assert f"{package.replace('.', '/')}/{relative}" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_imports_from_where_it_is_installed(distributions: Path, tmp_path: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = f"""
import sys
sys.path.insert(0, {str(site)!r})
import geoaug, geoaug.cli, geoaug.models, geoaug.sensors
print(geoaug.__file__, geoaug.cli.__file__, geoaug.models.__file__, sep="\\n")
assert "models" not in sys.modules and "cli" not in sys.modules
assert len(geoaug.sensors.get_sensor("sentinel-2-l1c")) == 13
"""
    installed = [Path(line).relative_to(site) for line in run_python(code, tmp_path, "-I").splitlines()]
    assert installed == [Path("geoaug", *room, "__init__.py") for room in ((), ("cli",), ("models",))]


@pytest.mark.slow
def test_the_sdist_holds_all_sources(project_root: Path, distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
    for _, path in module_files(project_root):
        assert path.relative_to(project_root).as_posix() in names
    assert {"LICENSE", "README.md", "pyproject.toml", "models/py.typed", "cli/py.typed"} <= names


def test_the_editable_install_has_the_same_names(project_root: Path) -> None:
    for folder, package in FOLDERS.items():
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        assert Path(spec.origin).resolve() == project_root / folder / "__init__.py"


def test_the_licence_is_the_declared_one(project_root: Path) -> None:
    text = (project_root / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text

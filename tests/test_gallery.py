"""The gallery shows every operation, and its page is what the script writes."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import matplotlib.image
import numpy as np
import pytest

from geoaug.augment.registry import own_operations

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_gallery", DOCS / "build_gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_writes_and_shows_every_operation(script: ModuleType) -> None:
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert text == script.page()
    for name in own_operations():
        assert f"### {name}\n" in text
    pictures = re.findall(r"\]\((images/.*?)\)", text)
    assert len(pictures) == len(own_operations()) + 1
    for picture in pictures:
        assert (DOCS / picture).stat().st_size > 5000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RandomCloud", "RandomSpeckle", "RandomD4", "RandAugment"])
def test_a_picture_is_drawn_and_its_panels_differ(script: ModuleType, name: str, tmp_path: Path) -> None:
    script.draw(name, tmp_path / "picture.png")
    picture = matplotlib.image.imread(tmp_path / "picture.png")[..., :3]
    width = picture.shape[1] // 4
    top = picture[30 : width - 10]
    panels = [top[:, 10 + width * i : width * (i + 1) - 10] for i in range(4)]
    assert any(np.abs(panels[0] - panel).mean() > 0.01 for panel in panels[1:])

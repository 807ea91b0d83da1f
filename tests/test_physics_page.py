"""The tables of the physics page are what the code gives."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_is_what_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("build_physics", DOCS / "build_physics.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = (DOCS / "physics.md").read_text(encoding="utf-8")
    assert text == script.page(text), "run python docs/build_physics.py"

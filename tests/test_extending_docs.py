"""The pages about extending run as they are written: the snippets of a page are one program."""

import re
import sys
import types
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[1] / "docs" / "extending").glob("*.md"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_snippets_about_extending_run_as_written(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(snippets) >= 2
    # A module of its own, where dataclasses and annotations look their names up.
    page = types.ModuleType("extending")
    monkeypatch.setitem(sys.modules, "extending", page)
    monkeypatch.setitem(sys.modules, "mylab", types.ModuleType("mylab"))  # put back afterwards
    for snippet in snippets:
        exec(compile(snippet, path.name, "exec"), vars(page))

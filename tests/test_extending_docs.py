"""The page about extending runs as it is written: its snippets are one program."""

import re
import sys
import types
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")


def test_the_snippets_about_extending_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(snippets) >= 7
    # A module of its own, where dataclasses and annotations look their names up.
    page = types.ModuleType("extending")
    monkeypatch.setitem(sys.modules, "extending", page)
    monkeypatch.setitem(sys.modules, "mylab", types.ModuleType("mylab"))  # put back afterwards
    for snippet in snippets:
        exec(compile(snippet, "extending.md", "exec"), vars(page))

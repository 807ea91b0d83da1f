"""Each statement of docs/conventions.md holds: its examples assert it."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "conventions.md").read_text(encoding="utf-8")
SECTIONS = {
    part.split("\n", 1)[0]: re.findall(r"```python\n(.*?)```", part, flags=re.DOTALL)
    for part in PAGE.split("\n## ")[1:]
}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_convention_holds_as_written(section: str) -> None:
    assert SECTIONS[section], f"'{section}' states something that no example asserts"
    for example in SECTIONS[section]:
        assert "assert " in example
        exec(compile(example, f"conventions.md, {section}", "exec"), {"__name__": "conventions"})

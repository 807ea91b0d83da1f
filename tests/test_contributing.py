"""What CONTRIBUTING.md tells a contributor to type is there, and commit subjects are checked as it says."""

import re

import pytest
from commit_subject import fault


def test_the_tasks_named_exist(project_root) -> None:
    text = (project_root / "CONTRIBUTING.md").read_text("utf-8")
    makefile = (project_root / "Makefile").read_text("utf-8")
    tasks = set(re.findall(r"^(\w+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"make (\w+)", text))
    assert named
    assert named <= tasks


def test_it_is_eight_lines_to_a_first_green_run(project_root) -> None:
    text = (project_root / "CONTRIBUTING.md").read_text("utf-8")
    commands = re.findall(r"^    \S.*$", text, flags=re.MULTILINE)
    assert len(commands) <= 8
    assert any("uv run pytest" in line for line in commands)


def test_links_between_documents_lead_somewhere(project_root) -> None:
    pages = [*project_root.glob("*.md"), *(project_root / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize(
    "message", ["raster: masks count\n\nwhy", "docs: a glossary", "cli, docs: one option", "Merge branch 'x'"]
)
def test_a_good_subject_passes(message: str) -> None:
    assert fault(message) is None


@pytest.mark.parametrize(
    "message", ["more work", "wip: x", "docs: " + "long " * 20, "docs:no space", "raster: wip", ""]
)
def test_a_bad_subject_is_told(message: str) -> None:
    assert fault(message)

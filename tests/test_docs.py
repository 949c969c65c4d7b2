"""The documents tell the truth: what they name exists, and what exists is named."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from provision.cli import COMMANDS
from provision.clouds.programs import CLOUDS
from tests import advice_page, answer_page, clouds_page, methods_page
from tests.rendered import (
    COMMANDS_PAGE,
    README,
    ROOMS,
    ROOT,
    TREE_PAGE,
    render_commands,
    render_tree_page,
    room_folder,
    with_tree,
)

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "benchmarks").rglob("*.md"))]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
MADE_UP = re.compile(r"\btoy\b")  # the cloud of docs/add-a-cloud.md, which is there only while that page is tested
by_path = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@by_path
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of this project finds one."""
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)[^)]*\)", page.read_text())
    assert [link for link in links if not target_of(page, link).exists()] == []


def target_of(page: Path, link: str) -> Path:
    """The file that a link means; one in a room is looked for where Python finds the room."""
    first, _, rest = (page.parent / link).resolve().relative_to(ROOT).as_posix().partition("/")
    return room_folder(first) / rest if first in ROOMS else ROOT / first / rest


@by_path
def test_files_and_modules_exist(page: Path) -> None:
    """Every path and every dotted name of a module of ours, wherever it is written, is there."""
    rooms = "|".join(ROOMS)
    text = page.read_text()
    paths = {ROOT / found for found in re.findall(rf"(?<![\w/])(?:{rooms}|tests|docs|benchmarks)/[\w/.-]*\w", text)}
    lost = {str(path.relative_to(ROOT)) for path in paths if not target_of(page, relative(page, path)).exists()}
    lost |= {name for name in re.findall(rf"\b(?:{rooms})\.[a-z_][\w.]*\w", text) if not is_named(name)}
    assert {name for name in lost if not MADE_UP.search(name)} == set()


def relative(page: Path, path: Path) -> str:
    """`path` as a link on `page` would write it."""
    return os.path.relpath(path, page.parent)


def is_named(dotted: str) -> bool:
    """Whether a dotted name is a file of ours: `.csv` and the like, a module, a room, or a name in one."""
    first, *rest = dotted.split(".")
    path = room_folder(first)
    for part in rest:
        if path.is_dir() and (path / part).is_dir():
            path = path / part
        elif (path / f"{part}.py").exists():
            path = path / f"{part}.py"
        else:
            source = path if path.is_file() else path / "__init__.py"
            return re.search(rf"\b{part}\b", source.read_text()) is not None
    return True


@by_path
def test_make_targets_exist(page: Path) -> None:
    """Every `make …` that a page tells to type is a target."""
    said = re.findall(r"`make ([a-z -]+)[`A-Z]|^(?:\$ )?make ([a-z -]+)$", page.read_text(), re.MULTILINE)
    assert {word for groups in said for word in " ".join(groups).split()} <= TARGETS


@by_path
def test_commands_exist(page: Path) -> None:
    """Every `rentune …` that a page tells to type is a command."""
    said = set(re.findall(r"(?:`|^\$ )rentune ([a-z]+)\b", page.read_text(), re.MULTILINE))
    assert said <= set(COMMANDS)


def test_pages_in_front_know_every_command_and_target() -> None:
    """The README names all commands, and the contributor's page all targets."""
    readme, contributing = README.read_text(), (ROOT / "CONTRIBUTING.md").read_text()
    assert [name for name in COMMANDS if f"rentune {name}" not in readme] == []
    unnamed = {target for target in TARGETS if f"make {target}" not in contributing}
    assert unnamed <= {"help", "setup-light", "setup-box", "setup-dev", "system-demo", "system-test", "test-wheel"}


def test_the_trees_in_the_documents_are_the_tree() -> None:
    """One line per file, as the files themselves say; `make docs` writes it."""
    assert README.read_text() == with_tree(README.read_text())
    assert TREE_PAGE.read_text() == render_tree_page()


def test_the_document_of_memory_names_files_and_functions_that_are_there() -> None:
    """In its table of instants, whose last column stands without the folder."""
    folder = room_folder("planner") / "estimators" / "memory"
    table = (ROOT / "docs" / "memory.md").read_text().partition("## The instants")[2].partition("\n## ")[0]
    named = [found for line in table.splitlines() for found in re.findall(r"`([^`]+)`", line.rpartition(" | ")[2])]
    files = {word for words in named for word in re.findall(r"[\w/]+\.py", words)}
    functions = {word for words in named for word in re.findall(r"(?<![\w/.])_?[a-z_]+(?![\w/.])", words)}
    instants = (folder / "instants.py").read_text()
    assert len(files) >= 4
    assert len(functions) >= 8
    assert [name for name in sorted(files) if not (folder / name).is_file()] == []
    assert [name for name in sorted(functions) if f"def {name}(" not in instants] == []


def test_the_architecture_names_every_room_within_a_room() -> None:
    told = re.findall(r"\w+", (ROOT / "docs" / "architecture.md").read_text().partition("**Rooms within rooms.**")[2])
    rooms = {
        path.parent.name for floor in ("planner", "provision", "remote") for path in room_folder(floor).rglob("*/__init__.py")
    }
    assert rooms - set(told[:120]) == set()


def test_the_page_of_commands_is_their_help() -> None:
    """docs/commands.md is what `--help` prints; `make docs` writes it."""
    assert COMMANDS_PAGE.read_text() == render_commands()


def test_the_page_of_clouds_is_what_the_rows_say() -> None:
    """docs/clouds.md; `make docs` writes it."""
    assert clouds_page.PAGE.read_text() == clouds_page.render_page()


def test_what_ends_a_box_is_told_to_an_approver_as_the_rows_have_it() -> None:
    """The table of docs/security.md; `make docs` writes it."""
    security = clouds_page.SECURITY_PAGE.read_text()
    assert clouds_page.SWITCH.search(security)
    assert security == clouds_page.with_switch(security)


def test_the_page_of_advice_is_what_the_rules_say() -> None:
    """docs/advice.md; `make docs` writes it."""
    assert advice_page.PAGE.read_text() == advice_page.render_page()


def test_the_page_of_32b_on_16_gb_is_what_the_search_answers() -> None:
    """docs/32b-on-16gb.md; `make docs` writes it."""
    assert answer_page.PAGE.read_text() == answer_page.render_page()


def test_the_page_of_methods_is_what_the_estimators_answer() -> None:
    """`make docs` writes docs/methods.md anew: which method has a trace, a closed form or neither, on each type of model."""
    assert methods_page.PAGE.read_text() == methods_page.render_page()
    assert methods_page.EXACT in methods_page.PAGE.read_text()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_cloud_has_a_page_of_its_own(cloud: str) -> None:
    """With what a run creates there and what the account needs; the test of links sees that they lead somewhere."""
    page = (ROOT / "docs" / "clouds" / f"{cloud}.md").read_text()
    assert {"## What a run creates", "## What the account needs"} <= set(page.splitlines())
    assert [name for name in CLOUDS[cloud].credential_variables[:1] if name not in page] == []


def test_every_promise_says_how_it_is_shown() -> None:
    """Each row of docs/acceptance.md has a command, a result and a date."""
    rows = [line for line in (ROOT / "docs" / "acceptance.md").read_text().splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith(("| promise", "| ---"))]
    assert len(promises) > 50
    incomplete = [row for row in promises if not re.fullmatch(r"\|[^|]+\|[^|]*`[^|]+`[^|]*\|[^|]+\| 20\d\d-\d\d-\d\d \|", row)]
    assert incomplete == []


def test_every_variable_is_in_the_table() -> None:
    """`RENTUNE_…` names that the code reads or sets are explained in docs/run-directory.md."""
    pattern = re.compile(r"\bRENTUNE_[A-Z_]+\b")
    said = set(pattern.findall((ROOT / "docs" / "run-directory.md").read_text()))
    used = {name for room in ROOMS for path in room_folder(room).rglob("*.py") for name in pattern.findall(path.read_text())}
    assert used == said


def test_every_target_explains_itself() -> None:
    """`make` alone lists what can be typed."""
    listed = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    assert {"demo", "test", "test-quick", "check", "setup", "clean"} <= set(re.findall(r"^([a-z-]+)", listed, re.MULTILINE))

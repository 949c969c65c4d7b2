"""docs/security.md is what an approver reads: each of its claims names a test, and that test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from remote.bases.hub import WANTED
from tests.clouds_page import SECURITY_PAGE, SWITCH
from tests.rendered import ROOMS, ROOT, room_folder

PAGE = SECURITY_PAGE.read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
HEADS = ("| Claim | Test |", "| Credential | Where | How long | Test |", "| Host | When |")
CODE = [path for room in ROOMS for path in room_folder(room).rglob("*.py")]


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_test_that_the_page_names_is_there(file: str, name: str) -> None:
    assert name in {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_claim_names_its_test() -> None:
    """A row of a table ends with one; hosts have one test for all, and what is made from the clouds' rows has theirs."""
    told = SWITCH.sub("", PAGE).splitlines()
    rows = [line for line in told if line.startswith("| ") and not line.startswith(("| ---", *HEADS))]
    hosts = [row for row in rows if re.match(r"\| `[a-z0-9-]+\.", row)]
    assert len(rows) > 25
    assert [row for row in rows if row not in hosts and not re.search(r"\| `tests/[\w/]+\.py::\w+` \|$", row)] == []


def test_no_code_comes_with_a_model() -> None:
    """Nobody asks for a model's own code, pickled weights are neither fetched nor read, and ours are read as data."""
    texts = {path: path.read_text() for path in CODE}
    assert [path for path, text in texts.items() if "trust_remote_code" in text] == []
    assert [path for path, text in texts.items() if re.search(r"\bpickle\b", text)] == []
    (loads,) = [text for path, text in texts.items() if "torch.load(" in text]
    loaders = [text for path, text in texts.items() if path.name in ("base.py", "heads.py") and path.parent.name == "bases"]
    assert [text.count(".from_pretrained(\n") == text.count("use_safetensors=True") == 1 for text in loaders] == [True, True]
    assert loads.count("torch.load(") == loads.count("weights_only=True") == 1
    assert not {"*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.py", "*"} & set(WANTED)


def test_the_page_links_to_what_it_rests_on() -> None:
    for page in ("clouds.md", "permissions/aws.md"):
        assert f"({page})" in PAGE
        assert (Path(ROOT) / "docs" / page).exists()

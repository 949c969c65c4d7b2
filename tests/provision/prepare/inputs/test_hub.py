"""Which commit of a base on the hub is trained: asked before anything is rented, of a real server on loopback."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from provision.errors import BadInput, Refused
from provision.prepare.inputs import BaseModel, hub_secrets
from provision.prepare.inputs.hub import pinned
from tests.doubles.services.hub import Hub, served

MODEL = "owner/tiny"
BASE = BaseModel(kind="hub", hub_id=MODEL)
FILES = {"config.json": b"{}", "model.safetensors": b"weights"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with served() as hub:
        yield hub


def at(hub: Hub, tmp_path: Path) -> Mapping[str, str]:
    """Variables of somebody without a token."""
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}


def test_the_newest_commit_is_the_one_there_is_now(hub: Hub, tmp_path: Path) -> None:
    """What somebody pushes between the plan and the box changes nothing."""
    commit = hub.commit(MODEL, FILES)
    base = pinned(BASE, None, at(hub, tmp_path))
    hub.commit(MODEL, {**FILES, "model.safetensors": b"pushed later"})
    assert base.revision == commit
    assert base.sha256 == {"model.safetensors": hashlib.sha256(b"weights").hexdigest()}


@pytest.mark.parametrize("said", ["v1/fixed", "the commit itself"])
def test_a_revision_that_was_said_is_kept(hub: Hub, tmp_path: Path, said: str) -> None:
    commit = hub.commit(MODEL, FILES, branch="v1/fixed")
    hub.commit(MODEL, {**FILES, "model.safetensors": b"newer"})
    assert pinned(BASE, said if said == "v1/fixed" else commit, at(hub, tmp_path)).revision == commit


def test_a_revision_that_is_not_there_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.commit(MODEL, FILES)
    with pytest.raises(Refused, match="no owner/tiny at v9 for you: it is not there") as refused:
        pinned(BASE, "v9", at(hub, tmp_path))
    assert "HF_TOKEN=" in str(refused.value.hint)


def test_weights_that_may_hold_code_are_refused(hub: Hub, tmp_path: Path) -> None:
    """Else the box would be paid to find that there is nothing to load."""
    hub.commit(MODEL, {"config.json": b"{}", "pytorch_model.bin": b"a pickle"})
    with pytest.raises(Refused, match="no safetensors weights at main"):
        pinned(BASE, None, at(hub, tmp_path))


def test_a_hub_that_does_not_answer_is_told_and_a_whole_commit_needs_none(hub: Hub, tmp_path: Path) -> None:
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    with pytest.raises(Refused, match=r"did not say which commit of owner/tiny .*refused") as refused:
        pinned(BASE, "main", nobody)
    assert "--revision" in str(refused.value.hint)
    base = pinned(BASE, "a" * 40, nobody)
    assert (base.revision, base.sha256) == ("a" * 40, {})


def test_a_renamed_model_is_followed_and_its_token_goes_to_no_other_host(hub: Hub, tmp_path: Path) -> None:
    commit = hub.commit("owner/renamed", FILES)
    hub.moved[MODEL] = "owner/renamed"
    assert pinned(BASE, None, at(hub, tmp_path)).revision == commit
    asked, hub.url = len(hub.asked), hub.url.replace("127.0.0.1", "localhost")  # another host by its name
    with pytest.raises(Refused, match="status 307"):
        pinned(BASE, None, {**at(hub, tmp_path), "HF_ENDPOINT": hub.url.replace("localhost", "127.0.0.1")})
    assert len(hub.asked) == asked + 1


def test_a_base_at_home_has_no_revisions() -> None:
    base = BaseModel(kind="folder", path="/model")
    assert pinned(base, None, {}) == base
    with pytest.raises(BadInput, match="/model does not come from the hub"):
        pinned(base, "main", {})


def test_the_box_asks_where_we_asked(hub: Hub, tmp_path: Path) -> None:
    """Somebody's own copy of the hub is the box's as well; the hub itself needs no word."""
    hub.commit(MODEL, FILES)
    base = pinned(BASE, None, at(hub, tmp_path))
    assert hub_secrets(base, {"HF_TOKEN": "hf_a"}) == {"HF_TOKEN": "hf_a", "HF_ENDPOINT": hub.url}
    assert hub_secrets(BASE, {"HF_TOKEN": "hf_a"}) == {"HF_TOKEN": "hf_a"}

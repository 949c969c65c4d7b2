"""Where things lie: whole paths, and no folder for what is no run."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.charge.ownerless.strays import end_stray
from provision.errors import BadInput
from provision.home.places import Places, read_places
from provision.prepare.opening import new_run_id
from provision.walk.edges import Edges
from tests.doubles.displays import Quiet


def test_a_home_said_from_here_is_the_same_from_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The engine and the trainer start in folders of their own."""
    monkeypatch.chdir(tmp_path)
    places = read_places({"RENTUNE_HOME": "here", "RENTUNE_CACHE": "there"})
    assert (places.home, places.cache) == (tmp_path / "here", tmp_path / "there")


@pytest.mark.parametrize("said", ["", ".", "..", "../runs/other", "a/b", "/etc", "a b", "a\0", "-x", "é"])
def test_what_is_no_id_of_a_run_has_no_folder(said: str, tmp_path: Path) -> None:
    """A cloud's tag may have been written by anybody: it leads to no other run's keys."""
    with pytest.raises(BadInput, match="no id of a run"):
        Places(home=tmp_path, cache=tmp_path).run(said)


def test_the_ids_that_are_given_out_have_one(tmp_path: Path) -> None:
    run_id = new_run_id(1_800_000_000.0)
    assert Places(home=tmp_path, cache=tmp_path).run(run_id).root == tmp_path / "runs" / run_id


def test_what_carries_a_tag_of_nobodys_is_left_and_told(tmp_path: Path) -> None:
    (tmp_path / "runs/victim").mkdir(parents=True)
    told = end_stray("../runs/victim", "aws", Edges(Places(home=tmp_path, cache=tmp_path), Quiet(), environment={}))
    assert (told.verdict, "no run's id" in told.message) == ("unknown", True)
    assert (tmp_path / "runs/victim").is_dir()

"""Checkpoints in object storage: what a box is granted there, and what comes home when it is gone. S3 is moto's."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from provision.errors import StoreFailed
from provision.home.checkpoints import COMING
from provision.state.checkpoints import LONGEST_S, PushedCheckpoints, pushed_folder
from provision.store.bucket import Bucket
from remote.checkpoints.checkpoint import Progress
from remote.checkpoints.grants import NUM_PLACES, WHOLE, Grants
from remote.checkpoints.push import NotTaken, Pusher, put_patiently
from remote.contract import CHECKPOINT_FILES, PROGRESS_FILE, checkpoint_name, encode
from remote.telemetry import Events
from tests.doubles.services.bucket import Storage
from tests.provision.rigs import await_true


@pytest.fixture
def kept(stored: Storage, request: pytest.FixtureRequest) -> PushedCheckpoints:
    """Of a run with a prefix of the test's own."""
    return PushedCheckpoints(Bucket(f"{stored.place}/{request.node.name}"), pushed_folder("run-1"))


class OnBox:
    """A box's folder of checkpoints, and a trainer that pushes them."""

    def __init__(self, folder: Path, grants: Grants) -> None:
        self.checkpoints, self.lines = folder / "checkpoints", folder / "events.jsonl"
        folder.mkdir(exist_ok=True)
        self.events = Events(self.lines)
        self.pusher = Pusher(grants, self.checkpoints, self.events)

    def write(self, step: int, *, best: int | None) -> None:
        place = self.checkpoints / checkpoint_name(step)
        place.mkdir(parents=True)
        for name in CHECKPOINT_FILES:
            (place / name).write_bytes(f"{name} of {step}".encode())
        (place / PROGRESS_FILE).write_bytes(encode(Progress(step=step, best_step=best)))

    def push(self, step: int, *, best: int | None) -> None:
        self.write(step, best=best)
        self.pusher.push(step, best)

    def told(self) -> list[tuple[str, int]]:
        """The events, once all is sent."""
        self.pusher.finish()
        lines = map(json.loads, self.lines.read_text().splitlines())
        return [(line["kind"], line["data"]["step"]) for line in lines]


def steps(home: Path) -> list[str]:
    return sorted(place.name for place in home.glob("*"))


# ── what is granted ────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_address_is_of_one_name_below_the_run(kept: PushedCheckpoints) -> None:
    grants = kept.grant(valid_s=3600)
    paths = [address.partition("?")[0] for place in grants.places for address in place.values()]
    assert len(set(paths)) == NUM_PLACES * (len(CHECKPOINT_FILES) + 1)
    assert all("/runs/run-1/checkpoints/001/" in path for path in paths)
    assert all("X-Amz-Expires=3600&" in address for place in grants.places for address in place.values())


@pytest.mark.parametrize(("left_s", "valid_s"), [(5400.0, 5400), (30 * 24 * 3600.0, int(LONGEST_S))])
def test_addresses_are_good_until_the_deadline_and_no_longer(
    kept: PushedCheckpoints, stored: Storage, left_s: float, valid_s: int
) -> None:
    """S3 signs for a week at the most."""
    address = kept.grant(valid_s=left_s).places[0][WHOLE]
    stored.ahead_s = valid_s - 60.0
    put_patiently(address, b"in time")
    stored.ahead_s = valid_s + 60.0
    with pytest.raises(NotTaken, match="the store answered 403"):
        put_patiently(address, b"too late")


@pytest.mark.parametrize("other", ["run-2/checkpoints/001", "run-1/checkpoints/002"])
def test_no_address_opens_another_place(kept: PushedCheckpoints, other: str) -> None:
    """Neither of another run nor of another start of this one's trainer."""
    address = kept.grant(valid_s=3600).places[0][WHOLE]
    with pytest.raises(NotTaken, match="the store answered 403"):
        put_patiently(address.replace("run-1/checkpoints/001", other), b"mine now")


def test_an_address_reads_nothing(kept: PushedCheckpoints) -> None:
    import requests

    address = kept.grant(valid_s=3600).places[0][WHOLE]
    put_patiently(address, b"written")
    assert requests.get(address, timeout=10).status_code == 403
    assert requests.get(address.partition("?")[0], timeout=10).status_code == 403


def test_every_start_of_a_trainer_has_places_of_its_own(kept: PushedCheckpoints) -> None:
    """One that was believed dead, and is not, writes over nothing of its successor's."""
    first, second = kept.grant(valid_s=3600), kept.grant(valid_s=3600)
    assert {a.partition("?")[0] for p in first.places for a in p.values()}.isdisjoint(
        a.partition("?")[0] for p in second.places for a in p.values()
    )


def test_a_box_whose_disk_takes_no_line_goes_on_pushing(
    kept: PushedCheckpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the store is all that outlives the box; the words about it are not worth as much."""
    box = OnBox(tmp_path / "box", kept.grant(valid_s=3600))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(box.events, "emit", full)
        box.push(1, best=None)
        await_true(lambda: kept.bring_newest(tmp_path / "first") == 1)
    box.push(2, best=None)
    assert box.told() == [("checkpoint_pushed", 2)]
    assert kept.bring_newest(tmp_path / "home") == 2


# ── what comes home ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_newest_comes_home_with_the_best_that_it_needs(kept: PushedCheckpoints, tmp_path: Path) -> None:
    box, home = OnBox(tmp_path / "box", kept.grant(valid_s=3600)), tmp_path / "home"
    box.push(1, best=1)
    box.told()
    later = OnBox(tmp_path / "box2", kept.grant(valid_s=3600))
    later.write(1, best=1)
    later.push(3, best=1)
    assert later.told() == [("checkpoint_pushed", 1), ("checkpoint_pushed", 3)]
    assert kept.bring_newest(home) == 3
    assert steps(home) == [checkpoint_name(1), checkpoint_name(3)]
    for place in home.iterdir():
        assert {file.name: file.read_bytes() for file in place.iterdir()} == {
            file.name: file.read_bytes() for file in (later.checkpoints / place.name).iterdir()
        }
    assert kept.bring_newest(home) is None


def test_a_long_run_takes_no_more_than_its_places(kept: PushedCheckpoints, tmp_path: Path) -> None:
    """The newest whole one and the best stay while the next is written, however many there are."""
    box, home = OnBox(tmp_path / "box", kept.grant(valid_s=3600)), tmp_path / "home"
    for step in range(1, 12):
        best = 4 if step >= 4 else None
        box.push(step, best=best)
        while ("checkpoint_pushed", step) not in [
            (line["kind"], line["data"]["step"]) for line in map(json.loads, box.lines.read_text().splitlines())
        ]:
            pass
    assert kept.bring_newest(home) == 11
    assert steps(home) == [checkpoint_name(4), checkpoint_name(11)]
    assert len([name for name in kept.bucket.names("runs") if name.endswith(WHOLE)]) <= NUM_PLACES


def test_one_whose_best_is_not_there_is_not_told_as_pushed(kept: PushedCheckpoints, tmp_path: Path) -> None:
    """Nobody can go on from it; the box would be ended as if it could."""

    def refuse_best(address: str, content: Path | bytes) -> None:
        if isinstance(content, Path) and content.parent.name == checkpoint_name(1):
            raise NotTaken("the store answered 400")
        put_patiently(address, content)

    box, home = OnBox(tmp_path / "box", kept.grant(valid_s=3600)), tmp_path / "home"
    box.pusher._put = refuse_best
    box.write(1, best=None)
    box.push(2, best=1)
    assert box.told() == [("checkpoint_not_pushed", 1), ("checkpoint_not_pushed", 2)]
    assert kept.bring_newest(home) is None


def test_one_that_was_cut_off_on_its_way_is_passed_over(kept: PushedCheckpoints, tmp_path: Path) -> None:
    """The machine was taken away in mid-push: what came before is whole."""
    sent: list[str] = []

    def cut(address: str, content: Path | bytes) -> None:
        sent.append(address)
        if len(sent) > 7:
            raise NotTaken("gone")
        put_patiently(address, content)

    box, home = OnBox(tmp_path / "box", kept.grant(valid_s=3600)), tmp_path / "home"
    box.pusher._put = cut
    box.write(1, best=None)
    box.write(2, best=1)
    box.pusher.push(2, 1)
    assert box.told() == [("checkpoint_pushed", 1), ("checkpoint_not_pushed", 2)]
    assert kept.bring_newest(home) == 1


def test_what_is_not_as_it_was_sent_does_not_come_home(kept: PushedCheckpoints, tmp_path: Path) -> None:
    box, home = OnBox(tmp_path / "box", kept.grant(valid_s=3600)), tmp_path / "home"
    box.write(1, best=None)
    box.push(2, best=1)
    box.told()
    (damaged,) = [name for name in kept.bucket.names("runs") if name.endswith("1/state.pt")]
    kept.bucket.put(damaged, b"other bytes")
    assert kept.bring_newest(home) == 1
    assert steps(home) == [checkpoint_name(1)]


def test_one_of_which_a_file_is_not_there_is_passed_over(kept: PushedCheckpoints, stored: Storage, tmp_path: Path) -> None:
    """That is an answer: the store was taken to be away for as long as it lasted."""
    box, home = OnBox(tmp_path / "box", kept.grant(valid_s=3600)), tmp_path / "home"
    box.write(1, best=None)
    box.push(2, best=1)
    box.told()
    stored.missing = "1/state.pt"
    assert kept.bring_newest(home) == 1
    assert steps(home) == [checkpoint_name(1)]


def test_what_a_line_that_was_cut_had_brought_is_not_fetched_again(
    kept: PushedCheckpoints, stored: Storage, tmp_path: Path
) -> None:
    box, home = OnBox(tmp_path / "box", kept.grant(valid_s=3600)), tmp_path / "home"
    box.push(1, best=None)
    box.told()
    stored.gets_left = 2  # what lies there, and one file of it
    with pytest.raises(StoreFailed):
        kept.bring_newest(home)
    (came,) = [path.name for path in (home / COMING / checkpoint_name(1)).iterdir() if path.stat().st_size]
    stored.gets_left, before = None, len(stored.requests)
    assert kept.bring_newest(home) == 1
    assert not any(each.startswith("GET") and each.endswith(came) for each in stored.requests[before:])


def test_what_an_earlier_fetch_had_brought_of_another_is_no_part_of_it(kept: PushedCheckpoints, tmp_path: Path) -> None:
    """Of a trainer that began anew, and stood at the same step."""
    box, home = OnBox(tmp_path / "box", kept.grant(valid_s=3600)), tmp_path / "home"
    box.push(1, best=None)
    box.told()
    begun = home / COMING / checkpoint_name(1)
    begun.mkdir(parents=True)
    (begun / "state.pt").write_bytes(b"other")
    assert kept.bring_newest(home) == 1
    assert (home / checkpoint_name(1) / "state.pt").read_bytes() == b"state.pt of 1"


@pytest.mark.parametrize("step", [-4, 10**12, 10**30])
def test_a_step_that_nobody_took_is_not_believed(kept: PushedCheckpoints, tmp_path: Path, step: int) -> None:
    """Whoever can write there would have the run go on from it for ever."""
    box, home = OnBox(tmp_path / "box", kept.grant(valid_s=3600)), tmp_path / "home"
    box.write(1, best=None)
    box.push(2, best=1)
    box.told()
    (whole,) = [name for name in kept.bucket.names("runs") if name.endswith(f"1/{WHOLE}")]
    said = kept.bucket.get(whole)
    assert said is not None
    kept.bucket.put(whole, said.data.replace(b'"step":2', f'"step":{step}'.encode()))
    assert kept.bring_newest(home) == 1


def test_one_that_is_overtaken_is_left_out(kept: PushedCheckpoints, tmp_path: Path) -> None:
    """The trainer has dropped it before its turn came."""
    box = OnBox(tmp_path / "box", kept.grant(valid_s=3600))
    box.pusher.push(1, None)
    box.pusher.finish()
    assert not box.lines.read_text()


def test_a_store_that_says_no_is_told_without_the_address(kept: PushedCheckpoints, stored: Storage, tmp_path: Path) -> None:
    grants = kept.grant(valid_s=60)
    stored.ahead_s = 3600
    box = OnBox(tmp_path / "box", grants)
    box.push(1, best=None)
    assert box.told() == [("checkpoint_not_pushed", 1)]
    assert "the store answered 403" in box.lines.read_text()
    assert "X-Amz" not in box.lines.read_text()


def test_once_the_result_is_at_home_nothing_stays_there(kept: PushedCheckpoints, tmp_path: Path) -> None:
    box = OnBox(tmp_path / "box", kept.grant(valid_s=3600))
    box.push(1, best=None)
    box.told()
    kept.forget()
    assert list(kept.bucket.names("runs")) == []
    assert kept.bring_newest(tmp_path / "home") is None

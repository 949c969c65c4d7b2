"""The notice before a spot machine is taken back: heard from a metadata server, heeded with a checkpoint of the very step.

The server is a double (tests/doubles/hosting/metadata.py): the real ones answer on their providers' machines only.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from remote.contract import NOTICES, Event, NoticeFrom
from remote.machine.notice import SOURCES, Notice, Source, await_notice
from remote.watch import Watch
from tests.doubles.hosting.metadata import NOTICE_S, MetadataServer
from tests.remote.conftest import LOOP, MakeJob

LOOKED_FOR: dict[NoticeFrom, Callable[[MetadataServer], dict[str, str]]] = {
    "aws": lambda server: {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{server.host}/"},
    "gcp": lambda server: {"GCE_METADATA_HOST": server.host},
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MetadataServer]:
    with MetadataServer("127.0.0.1", tmp_path, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_every_provider_that_gives_notice_has_its_source() -> None:
    """The controller's table and the trainer's."""
    assert set(NOTICES.values()) == SOURCES.keys() == NOTICE_S.keys()


@pytest.mark.parametrize("provider", SOURCES)
def test_it_is_heard_as_soon_as_it_is_given_and_not_before(
    provider: NoticeFrom, server: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the provider's own words and headers; a proxy that the job may use is not asked."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    slept_s = []

    def sleep(duration_s: float) -> None:
        slept_s.append(duration_s)
        if len(slept_s) == 2:
            server.taken.touch()

    notice = await_notice(SOURCES[provider], environment=LOOKED_FOR[provider](server), sleep=sleep)
    assert len(slept_s) == 2
    assert slept_s[0] <= NOTICE_S[provider] / 10
    assert NOTICE_S[provider] - 5 < notice.left_s <= NOTICE_S[provider]


@pytest.mark.parametrize("said", [OSError("no route"), ValueError("no JSON"), KeyError("time"), None], ids=repr)
def test_what_is_no_answer_is_no_notice(said: Exception | None) -> None:
    """The training goes on, and the next look is made."""
    answers: list[Exception | Notice | None] = [said, Notice(action="terminate", left_s=1.0)]

    def ask(_server: str) -> Notice | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    source = Source(server_of=lambda _: "", look_s=1.0, ask=ask)
    assert await_notice(source, environment={}, sleep=lambda _: None).action == "terminate"
    assert not answers


def test_a_notice_is_taken_once() -> None:
    """A second checkpoint of the same step saves nothing."""
    watch, notice = Watch(), Notice(action="terminate", left_s=100.0)
    watch.announce(notice)
    assert (watch.take_notice(), watch.take_notice()) == (notice, None)


@pytest.mark.torch
@pytest.mark.fault("F16", tier="code")
def test_a_trainer_that_hears_it_leaves_a_checkpoint_of_the_step_it_stands_at(
    make_job: MakeJob, events_of: Callable[[Path], list[Event]], server: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the next one would have been due, and it trains on for as long as there is a machine."""
    monkeypatch.setenv("GCE_METADATA_HOST", server.host)
    job = make_job(loop=msgspec.structs.replace(LOOP, max_steps=100_000, epochs=1e6, evaluations=0), notice_from="gcp")

    with subprocess.Popen([sys.executable, "-m", "remote", str(job)], stderr=subprocess.DEVNULL) as trainer:

        def wait_for(kind: str, *, more_than: int = 0) -> list[Event]:
            while len(heard := [event for event in events_of(job) if event.kind == kind]) <= more_than:
                assert trainer.poll() is None
                time.sleep(0.05)
            return heard

        wait_for("step")
        server.taken.touch()
        [notice] = wait_for("spot_notice")
        wait_for("step", more_than=notice.data["step"])
        trainer.kill()
    [checkpoint] = [event for event in events_of(job) if event.seq == notice.seq + 1]
    assert (checkpoint.kind, checkpoint.data["step"]) == ("checkpoint", notice.data["step"])
    assert notice.data["step"] > 0
    assert (job.parent / "checkpoints" / f"step-{notice.data['step']:08d}").is_dir()

"""A store that is really frozen: its process is stopped. It takes every connection, and answers none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.cli import call
from provision.errors import Exit, StoreFailed
from provision.home.places import Places
from provision.state import shared
from provision.store.bucket import Bucket, Version
from tests.doubles.services import bucket as double
from tests.doubles.services.bucket import Storage
from tests.provision.plans import tiny_files

REQUEST_S = 0.5  # so that a test need not wait as long as a person may


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """The double as a process of its own, with one book's worth in it, then stopped; its variables are set."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words = [sys.executable, "-W", "ignore", "-m", double.__name__]
    with subprocess.Popen(
        words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout
        for name, value in Storage(server.stdout.readline().strip()).variables.items():
            monkeypatch.setenv(name, value)
        Bucket(PLACE).put("a", b"there")
        server.send_signal(signal.SIGSTOP)
        try:
            yield server
        finally:
            server.send_signal(signal.SIGCONT)
            server.kill()


PLACE = Storage("").place


def test_whatever_is_asked_of_it_ends_in_one_sentence_and_holds_again_once_it_goes_on(
    frozen: subprocess.Popen[str], tmp_path: Path
) -> None:
    """It neither hangs nor takes silence for an answer: nothing is not the same as nothing said."""
    bucket = Bucket(PLACE, request_s=REQUEST_S)
    for ask in (
        lambda: bucket.get("a"),
        lambda: bucket.put_new("b", b""),
        lambda: bucket.put_over("a", b"", Version("x", None)),
        lambda: bucket.folders("runs"),
        lambda: bucket.fetch("a", tmp_path / "a"),
    ):
        with pytest.raises(StoreFailed, match=r"rentune-test/team/runs can't be reached: it gave no answer within 0\.50 s"):
            ask()
    frozen.send_signal(signal.SIGCONT)
    kept = Bucket(PLACE).get("a")
    assert kept is not None
    assert kept.data == b"there"


@pytest.mark.usefixtures("frozen")
def test_who_asks_for_runs_or_opens_one_is_told_and_nothing_is_opened(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a dollar is spent; with what to do."""
    monkeypatch.setattr(shared, "QUESTION_S", REQUEST_S)
    monkeypatch.setenv("RENTUNE_HOME", str(places.home))
    monkeypatch.setenv(shared.PASSPHRASE, "only the user knows this")
    model, data = tiny_files(tmp_path / "files")
    for words in (
        ["ls", "--state", PLACE],
        ["run", "--model", str(model), "--data", str(data), "--provider", "local", "--yes", "--state", PLACE],
    ):
        assert call(words) == Exit.FAILED
        told = capsys.readouterr().err
        assert "it gave no answer within 0.50 s" in told
        assert "Hint: try again once the store answers" in told
    assert not places.ledger.exists()

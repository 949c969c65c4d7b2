"""Object storage: names, versions, conditions, signed addresses; against moto's S3 on loopback."""

from __future__ import annotations

import signal
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from provision.errors import BadInput, Refused, StoreFailed
from provision.store.bucket import Bucket, Version, _words, checked_url
from tests.doubles.services.bucket import Storage
from tests.provision.rigs import await_true


@pytest.fixture
def bucket(stored: Storage, request: pytest.FixtureRequest) -> Bucket:
    """A prefix of the test's own."""
    return Bucket(f"{stored.place}/{request.node.name}")


def test_what_is_put_can_be_got(bucket: Bucket) -> None:
    """Bytes, and when they were written by the store's clock."""
    bucket.put("a/b", b"one")
    kept = bucket.get("a/b")
    assert kept is not None
    assert kept.data == b"one"
    assert kept.written_at_s > 1_700_000_000


def test_what_was_never_put_is_nothing(bucket: Bucket) -> None:
    assert bucket.get("a") is None


def test_a_name_is_taken_once(bucket: Bucket) -> None:
    """The second of two who put what is new is told that something is there, and it stays as it was."""
    assert bucket.put_new("a", b"first") is not None
    assert bucket.put_new("a", b"second") is None
    assert (kept := bucket.get("a")) is not None
    assert kept.data == b"first"


def test_only_the_version_that_was_seen_is_written_over(bucket: Bucket) -> None:
    """Whoever has seen an older one, or one that is gone, writes nothing."""
    first = bucket.put_new("a", b"1")
    assert first is not None
    second = bucket.put_over("a", b"2", first)
    assert second is not None
    assert bucket.put_over("a", b"3", first) is None
    assert (kept := bucket.get("a")) == (b"2", second, kept.written_at_s if kept else 0)
    assert bucket.put_over("gone", b"3", first) is None


def test_names_and_folders_are_listed(bucket: Bucket) -> None:
    """Of this prefix and no other."""
    for name in ("runs/1/a", "runs/1/b", "runs/2/a", "else"):
        bucket.put(name, b"x")
    assert sorted(bucket.names("runs")) == ["runs/1/a", "runs/1/b", "runs/2/a"]
    assert sorted(bucket.names()) == ["else", "runs/1/a", "runs/1/b", "runs/2/a"]
    assert sorted(bucket.folders("runs")) == ["1", "2"]
    bucket.delete(["runs/1/a", "never"])
    assert sorted(bucket.names("runs")) == ["runs/1/b", "runs/2/a"]


def test_a_large_file_goes_and_comes_in_pieces(bucket: Bucket, tmp_path: Path) -> None:
    """Eleven megabytes, byte for byte."""
    data = bytes(range(256)) * 44_000
    (tmp_path / "there").write_bytes(data)
    bucket.put("large", tmp_path / "there")
    bucket.fetch("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


LARGE = bytes(range(256)) * 44_000  # eleven megabytes: three pieces


def test_a_file_that_takes_longer_than_one_answer_may_comes_home(bucket: Bucket, stored: Storage, tmp_path: Path) -> None:
    """It was one answer under one time limit, so what took over a minute never came."""
    bucket.put("large", LARGE)
    stored.most_bytes = 5 * 2**20
    assert bucket.fetch("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == LARGE


def test_a_file_whose_way_home_was_cut_is_gone_on_with(bucket: Bucket, stored: Storage, tmp_path: Path) -> None:
    bucket.put("large", LARGE)
    stored.gets_left = 1
    with pytest.raises(StoreFailed):
        bucket.fetch("large", tmp_path / "back")
    stored.gets_left, stored.given_bytes = None, 0
    assert bucket.fetch("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == LARGE
    assert stored.given_bytes < len(LARGE)


def test_a_file_that_is_written_over_while_it_comes_is_not_made_of_two(bucket: Bucket, tmp_path: Path) -> None:
    class Overtaken(Bucket):
        def _piece(self, name: str, begin: int, end: int) -> tuple[bytes, str | None]:
            if begin:
                self.put("large", LARGE[::-1])
            return super()._piece(name, begin, end)

    bucket.put("large", LARGE)
    with pytest.raises(StoreFailed, match="was written over while it came home"):
        Overtaken(bucket.url).fetch("large", tmp_path / "back")


def test_what_is_not_there_is_no_silence(bucket: Bucket, tmp_path: Path) -> None:
    assert not bucket.fetch("never", tmp_path / "back")


def test_ctrl_c_is_heard_while_a_store_gives_no_answer(bucket: Bucket, stored: Storage) -> None:
    """It waited for the end of the request."""
    patient = Bucket(bucket.url, request_s=600.0)
    heard, before = threading.Event(), len(stored.requests)

    def press() -> None:
        try:
            await_true(lambda: len(stored.requests) > before)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            heard.wait(30.0)
        finally:
            stored.hangs = False

    stored.hangs = True
    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        patient.get("a")
    assert stored.hangs, "it was answered before the store was"
    heard.set()


@pytest.mark.parametrize("seconds", ["488.92ms", "1.2s", "31.000000004s"])
def test_the_same_trouble_is_told_by_the_same_words(seconds: str) -> None:
    trail = f"in {seconds}, after 3 retries, max_retries: 3, retry_timeout: 10s - 503"
    said = f"Generic S3 error: Error performing GET http://x/y {trail}"
    assert _words(Exception(said)) == "Generic S3 error: Error performing GET http://x/y - 503"


def test_a_signed_address_takes_a_put_without_credentials(bucket: Bucket, stored: Storage) -> None:
    """One name below the prefix; how long, it says itself."""
    address = bucket.signed_put("checkpoints/1.tar", valid_s=3600)
    assert f"{stored.place.removeprefix('s3:/')}/" in address
    assert "X-Amz-Expires=3600" in address
    assert stored.variables["AWS_SECRET_ACCESS_KEY"] not in address
    put = urllib.request.Request(address, data=b"weights", method="PUT", headers={"Content-Type": "application/octet-stream"})
    urllib.request.urlopen(put).close()
    assert (kept := bucket.get("checkpoints/1.tar")) is not None
    assert kept.data == b"weights"


def test_a_store_that_keeps_conditions_is_accepted_each_time(bucket: Bucket) -> None:
    bucket.require_conditions()
    bucket.require_conditions()


def test_a_store_that_passes_conditions_over_is_refused_in_one_sentence(bucket: Bucket, stored: Storage) -> None:
    """Also one that says nothing about it, and also where the name was there before."""
    stored.forgetful = True
    for _ in range(2):
        with pytest.raises(Refused, match="does not keep the conditions of a write") as refused:
            bucket.require_conditions()
        assert "If-Match" in str(refused.value.hint)


def test_a_store_that_does_not_answer_is_told_in_one_sentence(bucket: Bucket, stored: Storage, tmp_path: Path) -> None:
    """Whatever was asked of it."""
    stored.away = True
    asks = (
        lambda: bucket.get("a"),
        lambda: bucket.put("a", b""),
        lambda: bucket.put_new("a", b""),
        lambda: bucket.put_over("a", b"", Version("x", None)),
        lambda: list(bucket.names()),
        lambda: bucket.fetch("a", tmp_path / "a"),
    )
    for ask in asks:
        with pytest.raises(StoreFailed, match="can't be reached") as failed:
            ask()
        assert "\n" not in str(failed.value)


def test_a_bucket_that_is_not_there_is_named(stored: Storage) -> None:
    with pytest.raises(StoreFailed, match="no such bucket"):
        Bucket("s3://nobodys-bucket/x").put("a", b"")


@pytest.mark.parametrize("text", ["", "s3:/a", "s3://", "http://a/b", "a/b", "s3://a/b?c", "s3://a b/c", "file:///tmp"])
def test_what_is_no_place_in_object_storage_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput) as bad:
        checked_url(text)
    assert "s3://bucket/prefix" in str(bad.value.hint)


@pytest.mark.parametrize("url", ["s3://bucket/team", "gs://bucket/team", "az://container/team"])
def test_each_kind_can_be_opened(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked by that. Only S3 is met in the tests; the other two are the library's word."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    assert Bucket(url + "/").url == url


def test_an_account_that_is_not_named_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(BadInput, match="Account must be specified"):
        Bucket("az://container/team")

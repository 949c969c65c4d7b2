"""The shell: commands, host keys, cuts. Against a real SSH server on loopback."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import paramiko
import pytest

from provision.direct.here import local_offer
from provision.errors import BadInput, ConnectionFailed, TrainingFailed, WrongHostKey
from provision.seam import Box
from provision.ssh import Shell, Waits, fingerprint, follow, read_known_keys
from provision.ssh.channel import MOST_SAID_BYTES, Flooded, begin
from provision.ssh.keys import client_key, make_key
from tests.doubles.proxy import Proxy, proxied
from tests.provision.rigs import Rig, await_true, free_port, rig_of

pytestmark = pytest.mark.box


# ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_command_comes_back_with_both_streams_and_its_exit_code(shell: Shell) -> None:
    done = shell.run("echo said; echo complained >&2; exit 7")
    assert (done.rc, done.out, done.err) == (7, "said\n", "complained\n")


def test_both_streams_may_be_longer_than_any_window(shell: Shell) -> None:
    done = shell.run("head -c 5000000 /dev/zero | tr '\\0' a & head -c 5000000 /dev/zero | tr '\\0' b >&2; wait")
    assert (len(done.out), len(done.err)) == (5_000_000, 5_000_000)


def test_what_is_given_by_stdin_arrives_and_shows_in_no_argument(shell: Shell) -> None:
    done = shell.run("cat; echo; cat /proc/[0-9]*/cmdline | tr '\\0' ' '", stdin=b"a-secret")
    secret, arguments = done.out.split("\n", 1)
    assert secret == "a-secret"
    assert "sshd" in arguments
    assert "a-secret" not in arguments


def test_a_command_that_does_not_end_in_time_is_given_up(shell: Shell) -> None:
    with pytest.raises(ConnectionFailed, match="did not finish"):
        shell.run("sleep 60", timeout_s=0.3)
    assert shell.run("true").rc == 0


def test_a_command_that_never_stops_talking_is_given_up_before_it_fills_the_memory(shell: Shell) -> None:
    """The box answers, so that it is no matter of patience; the line goes on serving others."""
    with pytest.raises(Flooded, match=f"more than {MOST_SAID_BYTES:,} bytes"):
        shell.run("cat /dev/zero & cat /dev/zero >&2")
    assert shell.run("true").rc == 0


def test_a_command_that_talks_has_no_more_time_than_one_that_is_silent(shell: Shell) -> None:
    """Whoever is always about to say one more word was listened to for as long as it liked."""
    started_s = time.monotonic()
    with pytest.raises(ConnectionFailed, match="did not finish"):
        shell.run("while :; do echo more; done", timeout_s=0.5)
    assert time.monotonic() - started_s < 10.0


def test_a_box_that_does_not_take_what_it_is_fed_is_given_up(shell: Shell) -> None:
    with pytest.raises(ConnectionFailed, match="did not finish"):
        shell.run("sleep 60", timeout_s=0.5, stdin=bytes(8_000_000))


def test_a_command_killed_by_a_signal_has_no_exit_code(shell: Shell) -> None:
    assert shell.run("exec sh -c 'kill -9 $$'").rc == -1


def test_what_is_not_utf8_is_still_read(shell: Shell) -> None:
    assert shell.run("printf '\\377ok'").out == "�ok"


def test_a_closed_shell_stays_closed(rig: Rig, box: Box) -> None:
    shell = rig.connect(box)
    shell.close()
    with pytest.raises(ConnectionFailed, match="closed on purpose"):
        shell.run("true")


# ── who answers ────────────────────────────────────────────────────────────────────────────────────────────────────


class Stranger(paramiko.ServerInterface):  # type: ignore[misc]  # paramiko has no types
    """A server with a key of its own, which notes everybody who tells their name."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def get_allowed_auths(self, username: str) -> str:
        self.told.append(username)
        return "publickey"

    def check_auth_none(self, username: str) -> int:
        self.told.append(username)
        return int(paramiko.AUTH_FAILED)

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.told.append(username)
        return int(paramiko.AUTH_SUCCESSFUL)


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[tuple[int, Stranger]]:
    key = paramiko.PKey.from_path(make_key(tmp_path / "strangers_key", comment="stranger").private)
    seen = Stranger()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        transport = paramiko.Transport(connection)
        transport.add_server_key(key)
        try:
            transport.start_server(server=seen)
            transport.join(5.0)
        except (paramiko.SSHException, EOFError, OSError):  # the client hangs up in the middle: that is the point
            pass
        finally:
            transport.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1], seen
    thread.join()
    listener.close()


def test_another_host_key_is_refused_at_once_and_not_even_the_user_name_is_sent(
    rig: Rig, box: Box, stranger: tuple[int, Stranger]
) -> None:
    port, seen = stranger
    with pytest.raises(WrongHostKey, match="nothing was sent"):
        rig.connect(msgspec.structs.replace(box, port=port))
    assert seen.told == []


def test_a_host_without_a_key_of_the_pinned_type_is_refused(rig: Rig, box: Box) -> None:
    other = msgspec.structs.replace(box, host_key="ecdsa-sha2-nistp256 AAAA")
    with pytest.raises(WrongHostKey, match="pinned type"):
        rig.connect(other)


def test_a_box_that_admits_nobody_is_asked_until_the_deadline(rig: Rig, box: Box, tmp_path: Path) -> None:
    now = [0.0]
    unknown = client_key(tmp_path / "keys", run_id="other")
    with pytest.raises(ConnectionFailed, match="admits none of the keys"):
        Shell.connect(box, key=unknown.private, deadline_s=3.0, waits=Waits(clock=lambda: now[0], sleep=_advance(now)))
    assert now[0] == pytest.approx(2.0)


def test_a_box_that_is_not_there_yet_is_asked_until_the_deadline(rig: Rig, box: Box) -> None:
    now = [0.0]
    away = msgspec.structs.replace(box, port=free_port())
    with pytest.raises(ConnectionFailed, match="can't be reached"):
        Shell.connect(away, key=rig.key().private, deadline_s=600.0, waits=Waits(clock=lambda: now[0], sleep=_advance(now)))
    assert now[0] == pytest.approx(599.0)


def test_who_learns_that_a_silent_box_is_gone_ends_the_waiting(rig: Rig, box: Box) -> None:
    """After the first try that fails, before anybody is patient."""
    now, away = [0.0], msgspec.structs.replace(box, port=free_port())

    def say_gone() -> None:
        raise TrainingFailed("gone")

    waits = Waits(clock=lambda: now[0], sleep=_advance(now), while_silent=say_gone)
    with pytest.raises(TrainingFailed, match="gone"):
        Shell.connect(away, key=rig.key().private, deadline_s=600.0, waits=waits)
    with Shell.connect(box, key=rig.key().private, deadline_s=600.0, waits=waits) as shell:
        shell.expect(away)
        shell.hang_up()
        with pytest.raises(TrainingFailed, match="gone"):
            shell.run("true")
    assert now[0] == 0.0


def test_a_box_that_never_speaks_ends_at_the_deadline(rig: Rig, box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        silent = msgspec.structs.replace(box, port=mute.getsockname()[1])
        with pytest.raises(ConnectionFailed):
            Shell.connect(silent, key=rig.key().private, deadline_s=0.5)


def test_known_hosts_are_read_plain_and_hashed(box: Box, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    hashed = paramiko.HostKeys.hash_host("[127.0.0.1]:2222")
    known.write_text(f"example.org {box.host_key}\n{hashed} {box.host_key}\n")
    assert read_known_keys(known, "example.org", 22) == (box.host_key,)
    assert read_known_keys(known, "127.0.0.1", 2222) == (box.host_key,)
    assert read_known_keys(known, "127.0.0.1", 22) == ()
    assert read_known_keys(tmp_path / "absent", "example.org", 22) == ()


def test_a_fingerprint_reads_as_ssh_keygen_prints_it() -> None:
    # The key and fingerprint that GitHub publishes for its own SSH servers.
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    assert fingerprint(line) == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
    with pytest.raises(BadInput, match="public key line"):
        fingerprint("nonsense")


def test_a_client_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    first = client_key(tmp_path / "keys", run_id="run-1")
    assert client_key(tmp_path / "keys", run_id="run-1") == first
    assert first.private.stat().st_mode & 0o777 == 0o600
    assert first.private.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileExistsError):
        make_key(first.private, comment="another")


# ── cuts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def line(box: Box) -> Iterator[Proxy]:
    with proxied(box.port) as proxy:
        yield proxy


@pytest.fixture
def far(rig: Rig, box: Box, line: Proxy) -> Iterator[Shell]:
    """The box at the end of a line that can be cut."""
    with rig.connect(msgspec.structs.replace(box, port=line.port), patience_s=20.0) as shell:
        yield shell


def test_after_a_cut_the_next_command_finds_its_way(far: Shell, line: Proxy) -> None:
    line.cut()
    threading.Timer(0.5, line.heal).start()
    assert far.run("echo back").out == "back\n"


def test_a_cut_in_mid_command_is_told_and_never_sent_again(far: Shell, line: Proxy, place: str) -> None:
    threading.Timer(0.5, line.cut).start()
    with pytest.raises(ConnectionFailed):
        far.run(f"echo once >> {place}/count; sleep 3")
    line.heal()
    assert far.run(f"cat {place}/count").out == "once\n"


def test_patience_ends(rig: Rig, box: Box, line: Proxy) -> None:
    with rig.connect(msgspec.structs.replace(box, port=line.port), patience_s=1.5) as shell:
        line.cut()
        with pytest.raises(ConnectionFailed):
            shell.run("true")


def test_a_followed_file_is_whole_although_the_line_was_cut_twice(far: Shell, line: Proxy, place: str, tmp_path: Path) -> None:
    for at_s, act in ((0.5, line.cut), (1.5, line.heal), (2.0, line.cut), (2.5, line.heal)):
        threading.Timer(at_s, act).start()
    writing = f"i=0; while [ $i -lt 150 ]; do echo line $i; i=$((i+1)); sleep 0.02; done > {place}/log; touch {place}/done"
    far.run(f"setsid nohup sh -c {writing!r} > /dev/null 2>&1 < /dev/null &")
    alive = lambda: far.run(f"test ! -e {place}/done").rc == 0  # noqa: E731
    lines = list(far.follow(f"{place}/log", tmp_path / "log", alive=alive))
    assert lines == [f"line {number}".encode() for number in range(150)]
    assert (tmp_path / "log").read_bytes() == Path(place, "log").read_bytes()


def test_the_rest_of_a_file_comes_although_the_line_never_holds_for_all_of_it(
    rig: Rig, box: Box, place: str, tmp_path: Path
) -> None:
    """What has come counts: whoever began it again from the same byte after each cut would never be done."""
    text = b"".join(b"line %d\n" % number for number in range(400_000))
    Path(place, "log").write_bytes(text)
    with Proxy(box.port, bytes_per_s=1.5e6, cut_every_s=1.5) as line:
        with rig.connect(msgspec.structs.replace(box, port=line.port), patience_s=20.0) as shell:
            assert sum(1 for _ in shell.follow(f"{place}/log", tmp_path / "log", alive=lambda: False)) == 400_000
        assert line.num_cuts > 1
    assert (tmp_path / "log").read_bytes() == text


def test_a_line_that_brings_nothing_again_and_again_is_told(
    shell: Shell, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows asks then whether the box is there. It was asked until Python's stack was full."""
    Path(place, "log").write_bytes(b"one\n")
    tries: list[str] = []

    def broken(_channel: object, command: str, *, timeout_s: float) -> None:
        tries.append(command)
        raise ConnectionFailed("The line was cut.")

    monkeypatch.setattr(follow, "begin", broken)
    with pytest.raises(ConnectionFailed, match=r"did not come: the line broke 5 times"):
        list(shell.follow(f"{place}/log", tmp_path / "log", alive=lambda: False))
    assert len(tries) == 1 + follow.MAX_FRUITLESS


def test_following_goes_on_where_the_mirror_ends_and_completes_its_torn_line(shell: Shell, place: str, tmp_path: Path) -> None:
    Path(place, "log").write_bytes(b"one\ntwo\nthree\n")
    mirror = tmp_path / "log"
    mirror.write_bytes(b"one\ntw")
    assert list(shell.follow(f"{place}/log", mirror, alive=lambda: False)) == [b"two", b"three"]
    assert mirror.read_bytes() == b"one\ntwo\nthree\n"


def test_a_line_without_an_end_stays_in_the_mirror_and_is_not_handed_on(shell: Shell, place: str, tmp_path: Path) -> None:
    Path(place, "log").write_bytes(b"whole\nhal")
    assert list(shell.follow(f"{place}/log", tmp_path / "log", alive=lambda: False)) == [b"whole"]
    assert (tmp_path / "log").read_bytes() == b"whole\nhal"


def test_a_line_that_is_far_too_long_is_passed_over_and_told_once(shell: Shell, place: str, tmp_path: Path) -> None:
    """All that had come of it was joined and parted again at each chunk: 600 MB of it took longer than any deadline."""
    long = b"x" * (follow.MOST_LINE_BYTES + 1)
    Path(place, "log").write_bytes(b"one\n" + long + b"\n" + long + b"\ntwo\n")
    told: list[str] = []
    assert list(shell.follow(f"{place}/log", tmp_path / "log", alive=lambda: False, tell=told.append)) == [b"one", b"two"]
    [once] = told
    assert "longer than 1,048,576 bytes" in once
    assert (tmp_path / "log").read_bytes() == Path(place, "log").read_bytes()


def test_a_line_that_is_too_long_is_known_as_such_where_the_mirror_ends_in_it(shell: Shell, place: str, tmp_path: Path) -> None:
    text = b"one\n" + b"x" * (2 * follow.MOST_LINE_BYTES) + b"\ntwo\n"
    Path(place, "log").write_bytes(text)
    (tmp_path / "log").write_bytes(text[:-100])
    assert list(shell.follow(f"{place}/log", tmp_path / "log", alive=lambda: False)) == [b"two"]


def test_a_writer_that_ends_without_ever_being_silent_is_seen_to_have_ended(
    shell: Shell, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked for in silences alone."""
    monkeypatch.setattr(follow, "LOOK_S", 0.2)
    flooding = f"exec timeout 60 sh -c 'while :; do echo more; done' > {place}/log"
    shell.run(f"setsid nohup sh -c {flooding!r} > /dev/null 2>&1 < /dev/null & echo $! > {place}/pid")
    looks = iter((True, True))
    try:
        for _ in shell.follow(f"{place}/log", tmp_path / "log", alive=lambda: next(looks, False)):
            pass
    finally:
        shell.run(f"kill -- -$(cat {place}/pid)")
    assert next(looks, None) is None


def test_what_is_left_after_the_writers_end_comes_within_a_bound(
    shell: Shell, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result waits for it: a trainer that had said a gigabyte kept its own until after the deadline."""
    monkeypatch.setattr(follow, "LOOK_S", 0.0)
    monkeypatch.setattr(follow, "MOST_REST_BYTES", 1024 * 1024)
    Path(place, "log").write_bytes(b"line\n" * 2_000_000)
    told: list[str] = []
    list(shell.follow(f"{place}/log", tmp_path / "log", alive=lambda: False, tell=told.append))
    assert 0 < (tmp_path / "log").stat().st_size < 2 * 1024 * 1024
    assert [sentence.partition(": ")[2] for sentence in told] == ["what is left of it stays there."]


def test_a_mirror_has_an_end(shell: Shell, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after it stays on the box, and its writer is waited for."""
    monkeypatch.setattr(follow, "MOST_MIRROR_BYTES", 1000)
    monkeypatch.setattr(follow, "QUIET_S", (0.1,))
    Path(place, "log").write_bytes(b"line\n" * 1_000_000)
    looks = iter((True, True))
    told: list[str] = []
    lines = list(shell.follow(f"{place}/log", tmp_path / "log", alive=lambda: next(looks, False), tell=told.append))
    assert 200 <= len(lines) < 1_000_000
    assert next(looks, None) is None
    assert [sentence.partition(": ")[2] for sentence in told] == ["what comes now stays there."]


def test_a_file_that_never_came_has_no_lines(shell: Shell, place: str, tmp_path: Path) -> None:
    assert list(shell.follow(f"{place}/never", tmp_path / "log", alive=lambda: False)) == []


def test_a_frozen_box_is_noticed_and_comes_back(tmp_path: Path) -> None:
    with rig_of("local box without namespace", tmp_path) as rig:
        box = rig.provisioner.up(local_offer(), rig.launch())
        with rig.connect(box, patience_s=1.5, answer_s=0.5) as shell:
            servers = _servers(rig)
            _signal_all(servers, signal.SIGSTOP)
            with pytest.raises(ConnectionFailed):
                shell.run("true")
            _signal_all(servers, signal.SIGCONT)
            assert shell.run("echo thawed").out == "thawed\n"


def test_a_line_that_dies_just_as_a_command_begins_is_waited_for_no_longer_than_any(
    rig: Rig, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between paramiko's look whether the channel is open and its wait for the answer: nobody is left then to end the wait."""
    told: list[str] = []

    def begin_on_a_dying_line() -> None:
        with rig.connect(box) as shell, shell.session() as channel:
            wait_from_now_on = channel._event_pending

            def die_first() -> None:
                channel.get_transport().close()
                wait_from_now_on()

            monkeypatch.setattr(channel, "_event_pending", die_first)
            try:
                begin(channel, "true", timeout_s=0.2)
            except ConnectionFailed as error:
                told.append(str(error))

    beginning = threading.Thread(target=begin_on_a_dying_line, daemon=True)
    beginning.start()
    beginning.join(60.0)
    assert told, "it waits for ever"


def test_a_killed_server_ends_the_box(tmp_path: Path) -> None:
    with rig_of("local box without namespace", tmp_path) as rig:
        box = rig.provisioner.up(local_offer(), rig.launch())
        with rig.connect(box, patience_s=1.5, answer_s=0.5) as shell:
            _signal_all(_servers(rig), signal.SIGKILL)
            with pytest.raises(ConnectionFailed):
                shell.run("true")
        await_true(lambda: not rig.provisioner.owned().resources)


def _servers(rig: Rig) -> list[int]:
    owned = rig.provisioner.owned().resources
    return [int(resource.id.split()[0]) for resource in owned if resource.id.endswith(" sshd")]


def _signal_all(pids: list[int], number: int) -> None:
    assert pids
    for pid in pids:
        with suppress(ProcessLookupError):  # a child goes as soon as its parent has gone
            os.kill(pid, number)


def _advance(now: list[float]) -> Callable[[float], None]:
    """A sleep that takes no time."""

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return sleep

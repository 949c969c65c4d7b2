"""Under which address the world sees this machine: asked while a line is bad, so each way to fail is a sentence."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from provision.clouds.programs import caller
from provision.errors import ProvisionError


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """A server that sends so much to each caller and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                with line:
                    line.recv(4_096)
                    line.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)


def http(body: bytes, *, length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (length, body)


def test_the_address_is_one_network_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(http(b"192.0.2.7\n", length=10)) as url:
        monkeypatch.setattr(caller, "URL", url)
        assert caller.caller_address() == "192.0.2.7/32"


@pytest.mark.parametrize(
    "reply",
    [b"", http(b"1.2", length=30), b"garbage\r\n\r\n", http(b"<html>", length=6)],
    ids=["nothing", "cut off", "no HTTP", "no address"],
)
def test_each_way_to_fail_is_a_sentence(monkeypatch: pytest.MonkeyPatch, reply: bytes) -> None:
    with answering(reply) as url:
        monkeypatch.setattr(caller, "URL", url)
        with pytest.raises(ProvisionError, match="public address could not be found out"):
            caller.caller_address()

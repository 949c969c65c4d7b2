"""A double of whom gpuhunt asks live: a proxy on loopback, answering for any host over TLS by its own authority.

Whoever is led to it (HTTPS_PROXY) and trusts it (REQUESTS_CA_BUNDLE) asks the addresses that it always asks, and leaves
loopback never.
"""

from __future__ import annotations

import datetime as dt
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

WAIT_S = 30.0  # of an answer that doesn't come whole; the test is over before
CHUNK = b" " * (1 << 20)


@dataclass
class Answer:
    """What a host says. `drips`: a byte now and then, never the end; `endless`: as fast as it is taken."""

    body: object = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drips: bool = False
    endless: bool = False


@dataclass
class Asked:
    host: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Vendors:
    """Answers by host, whatever is asked there; what was asked."""

    authority: Path
    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    over: Event = field(default_factory=Event)

    @property
    def variables(self) -> dict[str, str]:
        return {"HTTPS_PROXY": self.url, "REQUESTS_CA_BUNDLE": str(self.authority), "NO_PROXY": ""}


@contextmanager
def vendors(folder: Path) -> Iterator[Vendors]:
    """A proxy that answers; its authority's certificate, and those that it signs, lie in the folder."""
    signer = _Signer(folder)
    there = Vendors(authority=signer.authority)
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Desk", (_Desk,), {"there": there, "signer": signer})) as server:
        there.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield there
        finally:
            there.over.set()
            server.shutdown()


class _Signer:
    """An authority, and what it vouches for: one key for all."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority of these tests")])
        self.authority = folder / "authority.pem"
        own = self._builder(self._name).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.authority.write_bytes(self._pem(own))
        secret = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / "key.pem").write_bytes(self._key.private_bytes(serialization.Encoding.PEM, *secret))

    def context(self, host: str) -> ssl.SSLContext:
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]))
        path = self._folder / f"{host}.pem"
        path.write_bytes(self._pem(builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)))
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(path, self._folder / "key.pem")
        return made

    def _builder(self, subject: x509.Name) -> x509.CertificateBuilder:
        now = dt.datetime.now(tz=dt.UTC)
        dated = (
            x509.CertificateBuilder().not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
        )
        named = dated.subject_name(subject).issuer_name(self._name).serial_number(x509.random_serial_number())
        return named.public_key(self._key.public_key())

    def _pem(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class _Desk(BaseHTTPRequestHandler):
    there: Vendors
    signer: _Signer
    host = ""

    def do_CONNECT(self) -> None:
        self.host = self.path.partition(":")[0]
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        with suppress(OSError), self.signer.context(self.host).wrap_socket(self.connection, server_side=True) as line:
            self.rfile, self.wfile = line.makefile("rb"), line.makefile("wb")
            self.handle_one_request()
        self.close_connection = True

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.there.asked.append(Asked(self.host, self.path, dict(self.headers), body))
        answer = self.there.answers.get(self.host, Answer(status=404))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        told = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        if answer.drips or answer.endless:
            self.end_headers()
            self._go_on(CHUNK if answer.endless else b" ", pause_s=0.0 if answer.endless else 0.02)
            return
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)
        self.wfile.flush()

    def do_POST(self) -> None:
        self.do_GET()

    def _go_on(self, piece: bytes, *, pause_s: float) -> None:
        with suppress(OSError):  # whoever asked has left
            while not self.there.over.wait(pause_s):
                self.wfile.write(piece)
                self.wfile.flush()

    def log_message(self, *_args: Any) -> None:
        """Nothing is printed."""

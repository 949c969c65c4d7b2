"""From an address and a pinned host key to an authenticated connection. Nothing of ours is sent before the key matched."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

from provision.errors import BadInput, ConnectionFailed, WrongHostKey
from provision.seam import Box

ANSWER_S = 15.0  # assumed: TCP, banner, key exchange and login take no longer on a box that works
KEEPALIVE_S = 5  # assumed: oftener than any middlebox forgets
PEER_DEAD_MS = 20_000  # assumed: unacknowledged bytes this old mean a dead peer; paramiko's own keepalive never notices one
MAX_IDENTITIES = 5  # derived: sshd hangs up after six refused keys (MaxAuthTries)

# RSA host keys sign with SHA-2 under names of their own (RFC 8332); every other type signs under its own name.
SIGNATURE_TYPES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
HOST_KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
# GCM first: 1.3 times the speed of paramiko's default, which puts it last (measured on loopback, paramiko 5.1).
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")


class KeyRefused(ConnectionFailed):
    """The right box answers and does not admit our key (yet: cloud-init may still be writing it)."""


@dataclass(frozen=True)
class Identity:
    """Who we are to the box: private key files, tried in order, and the user's agent only where they said so."""

    keys: tuple[Path, ...]
    agent: bool = False


def login(box: Box, identity: Identity, *, timeout_s: float = ANSWER_S) -> paramiko.Transport:
    """One attempt. Raises WrongHostKey, KeyRefused or ConnectionFailed; leaves nothing open then."""
    pinned = [split_key(line) for line in filter(None, (box.host_key, box.coming_host_key))]
    signatures = tuple(dict.fromkeys(name for key_type, _ in pinned for name in SIGNATURE_TYPES.get(key_type, (key_type,))))
    transport = _exchange(box.host, box.port, signatures, timeout_s)
    try:
        with _mapped(box.host, box.port):
            answered = transport.get_remote_server_key()
            if answered.asbytes() not in [blob for _, blob in pinned]:
                raise WrongHostKey(
                    f"{box.host}:{box.port} answered with the host key {fingerprint(_line(answered))} instead of "
                    f"{fingerprint(box.host_key)}; nothing was sent.",
                    hint="Another machine has this address now, or somebody is listening in between.",
                )
            _authenticate(transport, box, identity)
            transport.set_keepalive(KEEPALIVE_S)
    except BaseException:
        transport.close()
        raise
    return transport


def fetch_host_key(host: str, port: int, *, key_type: str | None = None, timeout_s: float = ANSWER_S) -> str:
    """The key that the host shows now, as a line. Proves nothing by itself: compare it, or ask."""
    types = (key_type,) if key_type else HOST_KEY_TYPES
    signatures = tuple(name for each in types for name in SIGNATURE_TYPES.get(each, (each,)))
    transport = _exchange(host, port, signatures, timeout_s)
    try:
        return _line(transport.get_remote_server_key())
    finally:
        transport.close()


def read_config(config: Path, host: str) -> dict[str, Any]:
    """What an ssh_config says of a host: "hostname", "user", "port", "identityfile" and their like. Raises BadInput."""
    try:
        return dict(paramiko.SSHConfig.from_path(str(config)).lookup(host))
    except (paramiko.ConfigParseError, OSError, UnicodeDecodeError, ImportError) as error:
        raise BadInput(f"{config} can't be read: {error}.", hint="--host user@address:port needs none of it") from None


def read_known_keys(known_hosts: Path, host: str, port: int) -> tuple[str, ...]:
    """Keys that a known_hosts file (hashed names too) holds for the host, strongest type first."""
    if not known_hosts.exists():
        return ()
    name = host if port == 22 else f"[{host}]:{port}"
    found = paramiko.HostKeys(str(known_hosts)).lookup(name) or {}
    return tuple(_line(found[key_type]) for key_type in HOST_KEY_TYPES if key_type in found)


def split_key(line: str) -> tuple[str, bytes]:
    """Type and bytes of a public key line."""
    try:
        key_type, encoded = line.split()[:2]
        return key_type, base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise BadInput(f"{line!r} is not a public key line.", hint='Write it as "ssh-ed25519 AAAA…".') from error


def fingerprint(line: str) -> str:
    """As `ssh-keygen -l` prints it: SHA256:… without padding."""
    digest = hashlib.sha256(split_key(line)[1]).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _exchange(host: str, port: int, key_types: tuple[str, ...], timeout_s: float) -> paramiko.Transport:
    _quieten()
    with _mapped(host, port):
        sock = socket.create_connection((host, port), timeout=timeout_s)
        try:
            _tune(sock)
            transport = paramiko.Transport(sock)
        except BaseException:
            sock.close()
            raise
        try:
            transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = timeout_s
            options = transport.get_security_options()
            options.key_types, options.ciphers = key_types, CIPHERS
            transport.start_client(timeout=timeout_s)
        except BaseException:
            transport.close()
            sock.close()
            raise
    return transport


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # paramiko never does: reads fell to 5 MB/s without
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux only; elsewhere the channel timeouts have to notice
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_DEAD_MS)


def _authenticate(transport: paramiko.Transport, box: Box, identity: Identity) -> None:
    offered = 0
    for key in _candidates(identity):
        offered += 1
        with contextlib.suppress(paramiko.AuthenticationException):
            transport.auth_publickey(box.user, key)
            if transport.is_authenticated():
                return
    at = f"{box.user}@{box.host}:{box.port} answers, but"
    if box.ours:
        raise KeyRefused(f"{at} admits none of the keys that were offered.")
    if not box.folder and not offered:
        raise KeyRefused(
            f"{at} no key was offered: no agent holds one, and no file of one can be read.", hint=_without_keys(box)
        )
    if not box.folder:  # by its owner's keys, before anything of ours is there
        raise KeyRefused(
            f"{at} admits none of the keys that were offered.", hint=f"See which: ssh -v -p {box.port} {box.user}@{box.host}"
        )
    raise KeyRefused(
        f"{at} does not take the run's key, which stands in ~/.ssh/authorized_keys there until the deadline.",
        hint="Its SSH server may read keys from another file: let AuthorizedKeysFile in its sshd_config name that one, too.",
    )


def _without_keys(box: Box) -> str:
    """How somebody who logs in by password, or whose key is locked, gets one that can be offered."""
    return (
        "A key under a passphrase: ssh-add. None yet: ssh-keygen -t ed25519, then "
        f"ssh-copy-id -p {box.port} {box.user}@{box.host}. One elsewhere: IdentityFile in ~/.ssh/config"
    )


def _candidates(identity: Identity) -> Iterator[Any]:
    for path in identity.keys[:MAX_IDENTITIES]:
        # A key under a passphrase is the agent's business.
        with contextlib.suppress(paramiko.PasswordRequiredException, OSError, ValueError, TypeError):
            yield paramiko.PKey.from_path(path)
    if identity.agent:
        yield from paramiko.Agent().get_keys()[:MAX_IDENTITIES]


@contextlib.contextmanager
def _mapped(host: str, port: int) -> Iterator[None]:
    """Foreign exceptions in the order in which they must be told apart."""
    where = f"{host}:{port}"
    try:
        yield
    except paramiko.AuthenticationException as error:
        raise KeyRefused(f"{where} refused the login: {error}.") from error
    except paramiko.SSHException as error:
        if "host key" in str(error):  # IncompatiblePeer: it has no key of the pinned type at all
            raise WrongHostKey(f"{where} has no host key of the pinned type; nothing was sent.") from error
        raise ConnectionFailed(f"{where} did not speak SSH properly: {error}.") from error
    except TimeoutError as error:
        raise ConnectionFailed(f"{where} did not answer in time.") from error
    except (OSError, EOFError) as error:
        raise ConnectionFailed(f"{where} can't be reached: {str(error) or type(error).__name__}.") from error


def _line(key: Any) -> str:
    return f"{key.get_name()} {key.get_base64()}"


def _quieten() -> None:
    """The transport thread prints tracebacks to stderr unless its logger has a handler."""
    logger = logging.getLogger("paramiko")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())

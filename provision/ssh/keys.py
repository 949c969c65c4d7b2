"""Ed25519 keys of one run: the client's, and a host key for boxes that we start ourselves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KeyPair:
    """A private key on disk (OpenSSH format, 0600) and its public line, "ssh-ed25519 AAAA… comment"."""

    private: Path
    public: str


def new_key(*, comment: str) -> tuple[str, str]:
    """A new key: its private half (OpenSSH format) and its public line. Nothing is written."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), f"{public.decode()} {comment}"


def make_key(path: Path, *, comment: str) -> KeyPair:
    """Write a new key to `path` and its public half beside it (`.pub`). Raises FileExistsError rather than overwrite."""
    private, line = new_key(comment=comment)
    _write_new(path, private.encode(), mode=0o600)
    _write_new(path.with_name(path.name + ".pub"), f"{line}\n".encode(), mode=0o644)
    return KeyPair(private=path, public=line)


def client_key(folder: Path, *, run_id: str) -> KeyPair:
    """The run's client key in `folder` (RunFolder.keys, made 0700): created by the first call, read by later ones."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    private, public = folder / "client", folder / "client.pub"
    if public.exists():  # written second, so both are there
        return KeyPair(private=private, public=public.read_text().strip())
    private.unlink(missing_ok=True)
    return make_key(private, comment=f"rentune:{run_id}")


def known_key(folder: Path) -> Path | None:
    """The private half in that folder, for whoever only looks; None where there is none."""
    private = folder / "client"
    return private if private.exists() else None


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)

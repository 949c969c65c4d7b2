"""Ed25519 keys of one run: the client's, and a host key for boxes that we start ourselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KeyPair:
    """A private key on disk (OpenSSH format, 0600) and its public line, "ssh-ed25519 AAAA… comment"."""

    private: Path
    public: str


def make_key(path: Path, *, comment: str) -> KeyPair:
    """Write a new key to `path` and its public half beside it (`.pub`). Raises FileExistsError rather than overwrite."""
    raise NotImplementedError


def client_key(folder: Path, *, run_id: str) -> KeyPair:
    """The run's client key in `folder` (RunFolder.keys, made 0700): created by the first call, read by later ones."""
    raise NotImplementedError

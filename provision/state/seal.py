"""What leaves this machine as state is sealed: a key per run, itself locked by a passphrase that only the user has.

AES-256-GCM; the run's id is bound in, so that one run's papers can't be laid under another's name. The passphrase is turned
into a key by scrypt, with the cost that OWASP's cheat sheet on password storage names (N = 2^17, r = 8, p = 1; seen 2026-11).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from provision.errors import BadInput, MissingPart, Refused
from provision.extras import install_command

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES: Final = 12  # derived: the 96 bits that GCM was made for (NIST SP 800-38D)
KEY_BYTES: Final = 32  # derived: AES-256
LEAST_CHARS: Final = 12  # assumed: whoever reads the bucket may try as long as he likes
WRAPPED_FOR: Final = b"rentune state key"


# Derived: what this version asks for, and three doublings to come. 2^20 takes 1 GiB; what a book asks for beyond is no lock.
COSTS: Final = frozenset((2**exponent, 8, 1) for exponent in range(17, 21))


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """A run's key as it lies in the store: of no use without the passphrase."""

    salt: bytes
    locked_key: bytes
    n: int = 2**17
    r: int = 8
    p: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError, which a decoder makes its own, for a cost that no version of ours asks for."""
        if (self.n, self.r, self.p) not in COSTS:
            raise ValueError("no cost of a key that is known")


def require_passphrase(passphrase: str | None, *, variable: str) -> str:
    """Raises BadInput where there is none, or one that is soon tried out."""
    if passphrase is None or len(passphrase) < LEAST_CHARS:
        what = "is not set" if not passphrase else f"has fewer than {LEAST_CHARS} characters"
        raise BadInput(f"{variable} {what}: the run's keys and papers are sealed with it.", hint=f"export {variable}=…")
    return passphrase


def new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def locked(key: bytes, passphrase: str) -> Lock:
    """The run's key, locked."""
    bare = Lock(salt=secrets.token_bytes(16), locked_key=b"")
    return msgspec.structs.replace(bare, locked_key=_sealed(_from(passphrase, bare), key, WRAPPED_FOR))


def unlocked(lock: Lock, passphrase: str, *, variable: str) -> bytes:
    """The run's key. Raises Refused where it is another passphrase than the one in `variable` of the environment."""
    key = _opened(_from(passphrase, lock), lock.locked_key, WRAPPED_FOR)
    if key is None:
        raise Refused(
            "That is not the passphrase which this run was opened with.", hint=f"Set {variable} to that one, and type the same."
        )
    return key


def seal(key: bytes, data: bytes, *, run_id: str) -> bytes:
    return _sealed(key, data, run_id.encode())


def unseal(key: bytes, data: bytes, *, run_id: str) -> bytes:
    """Raises Refused where the bytes are not those that were sealed for this run."""
    opened = _opened(key, data, run_id.encode())
    if opened is None:
        raise Refused(
            f"The papers of run {run_id} in its state are damaged.",
            hint=f"On the machine that opened it, type `rentune resume {run_id}` or `rentune down {run_id}`.",
        )
    return opened


def name_of(key: bytes, data: bytes) -> str:
    """A name that is the same for the same bytes, and says nothing about them to whoever lacks the key."""
    return hmac.new(key, data, hashlib.sha256).hexdigest()


def _from(passphrase: str, lock: Lock) -> bytes:
    memory_bytes = 128 * lock.n * lock.r
    return hashlib.scrypt(
        passphrase.encode(), salt=lock.salt, n=lock.n, r=lock.r, p=lock.p, maxmem=2 * memory_bytes, dklen=KEY_BYTES
    )


def _sealed(key: bytes, data: bytes, bound_to: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + _cipher(key).encrypt(nonce, data, bound_to)


def _opened(key: bytes, data: bytes, bound_to: bytes) -> bytes | None:
    from cryptography.exceptions import InvalidTag

    try:
        return _cipher(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError):
        return None


def _cipher(key: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise MissingPart("State in object storage needs the package cryptography.", hint=install_command("state")) from None
    return AESGCM(key)

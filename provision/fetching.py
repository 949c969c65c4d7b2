"""A public file over HTTP, within a deadline and a limit of bytes; whatever goes wrong is one sentence."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import IO, Any, Final, Literal

from provision.exchange import opener

CHUNK_BYTES: Final = 1 << 16  # assumed: the limit is looked at after each
SCHEMES: Final = ("http", "https")
TOO_MANY: Final = 429  # derived: RFC 6585

Kind = Literal["unreached", "failed"]  # no network, or none that brings an answer in time; what came is no use


class NotFetched(Exception):
    """`str(error)` says why, to stand after a colon; `kind` what a caller may go by."""

    def __init__(self, why: str, *, kind: Kind = "failed") -> None:
        super().__init__(why)
        self.kind: Final = kind


def fetch(url: str, *, max_bytes: int, within_s: float) -> bytes:
    """What lies at `url`. Raises NotFetched: no answer, another one than 200, too long, too many bytes, cut off."""
    return b"".join(_pieces(url, max_bytes=max_bytes, within_s=within_s))


def save(url: str, file: IO[bytes], *, max_bytes: int, within_s: float) -> str:
    """Write what lies at `url` into `file`; its hex sha256. Raises NotFetched, and OSError of the disk."""
    digest = hashlib.sha256()
    for piece in _pieces(url, max_bytes=max_bytes, within_s=within_s):
        file.write(piece)
        digest.update(piece)
    file.flush()
    return digest.hexdigest()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """What is asked for over TLS is not fetched without."""

    def redirect_request(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme != "https" and (req.type == "https" or scheme not in SCHEMES):
            raise NotFetched(f"it leads to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _pieces(url: str, *, max_bytes: int, within_s: float) -> Iterator[bytes]:
    """Piece by piece: one that drips, or never ends, holds nobody."""
    if urllib.parse.urlsplit(url).scheme not in SCHEMES:
        raise NotFetched(f"{url} is no address of the web")
    try:
        with opener(_Redirects, within_s=within_s).open(url, timeout=within_s) as answer:
            yield from _read(answer, max_bytes=max_bytes, promised=answer.headers.get("Content-Length"))
    except urllib.error.HTTPError as error:
        with error:
            raise NotFetched(_status(error)) from None
    except TimeoutError:
        raise NotFetched(f"no answer within {within_s:g} s", kind="unreached") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise NotFetched(f"no answer within {within_s:g} s", kind="unreached") from None
        why = getattr(reason, "strerror", None) or reason
        raise NotFetched(f"it can't be reached: {why}", kind="unreached") from None


def _read(answer: http.client.HTTPResponse, *, max_bytes: int, promised: str | None) -> Iterator[bytes]:
    num_bytes = 0
    while piece := answer.read1(CHUNK_BYTES):
        num_bytes += len(piece)
        if num_bytes > max_bytes:
            raise NotFetched(f"it is larger than {max_bytes:,} bytes")
        yield piece
    if promised is not None and promised.isdigit() and num_bytes != int(promised):
        raise NotFetched(f"it was cut off after {num_bytes:,} of {int(promised):,} bytes")


def _status(error: urllib.error.HTTPError) -> str:
    if error.code != TOO_MANY:
        return f"the server said {error.code} {error.reason}".rstrip()
    after = error.headers.get("Retry-After", "")
    return f"the server asks for patience ({TOO_MANY}), try again {f'in {after} s' if after.isdigit() else 'later'}"

"""A double of S3's doorman for signed addresses: Signature Version 4 in the query, as Amazon's documents have it (2026-11).

It knows one secret and one way of signing, that of an address without a hash of its content.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from typing import Any, Final
from urllib.parse import parse_qsl, quote

OPEN_PATHS: Final = ("/moto-api/",)  # the emulator's own


def refused(environ: dict[str, Any], *, secret: str, now_s: float) -> str | None:
    """Why a request is not let in; None where it is."""
    asked = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    if "X-Amz-Signature" not in asked:
        known = "HTTP_AUTHORIZATION" in environ or environ["PATH_INFO"].startswith(OPEN_PATHS)
        return None if known else "AccessDenied: nobody has signed this"
    signed_at = dt.datetime.strptime(asked["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    if now_s > signed_at.timestamp() + int(asked["X-Amz-Expires"]):
        return "AccessDenied: Request has expired"
    signature = asked.pop("X-Amz-Signature")
    if not hmac.compare_digest(signature, _signature(environ, asked, secret)):
        return "SignatureDoesNotMatch"
    return None


def _signature(environ: dict[str, Any], asked: dict[str, str], secret: str) -> str:
    headers = asked["X-Amz-SignedHeaders"].split(";")
    lines = (f"{name}:{environ['HTTP_' + name.upper().replace('-', '_')].strip()}\n" for name in headers)
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(asked.items()))
    path = quote(environ["PATH_INFO"], safe="/")
    canonical = [environ["REQUEST_METHOD"], path, query, "".join(lines), ";".join(headers), "UNSIGNED-PAYLOAD"]
    scope = asked["X-Amz-Credential"].partition("/")[2]
    text = ["AWS4-HMAC-SHA256", asked["X-Amz-Date"], scope, hashlib.sha256("\n".join(canonical).encode()).hexdigest()]
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, "\n".join(text).encode(), "sha256").hexdigest()

"""The one door for text that leaves: what is known to be secret, and what looks like a key, becomes [hidden].

Errors, notes, logs, the engine's words, reports and alerts pass through `redact`. It knows the values of the variables that
hold secrets, what the caller hands in, and the shapes that makers of keys gave them so that they can be found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Final

HIDDEN: Final = "[hidden]"
LEAST_CHARS: Final = 6  # assumed: a shorter value is no secret, and hiding it would garble every text
LEAST_LINE_CHARS: Final = 20  # assumed: of a secret of several lines, the lines that tell something

SECRET_WORDS: Final = frozenset({"KEY", "CREDENTIALS", "PAT", "PIN", "DSN"})
SECRET_ENDINGS: Final = ("SECRET", "TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "PASS", "APIKEY")  # of a word: PGPASSWORD
SECRET_NAMES: Final = ("CONNECTION_STRING", "_PWD", "WEBHOOK", "WEBHOOK_URL")  # of a whole name its end
OPEN_ENDINGS: Final = frozenset({"FILE", "PATH", "DIR", "ID", "NAME", "URL", "URI", "SOCK", "PARALLELISM"})

URL_WITH_PASSWORD: Final = re.compile(r"\w://[^/\s:@]*:[^/\s@]+@")

NAMES_OF_SECRETS: Final = (
    "secret_?access_?key|session_?token|access_?token|auth_?token|api_?key|client_?secret|password|passphrase"
)
# What keys look like by their makers' documents, as of 2026-11. Of a pattern with a group only what follows it is hidden.
SHAPES: Final = (
    r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",  # AWS
    r"\bhf_[A-Za-z0-9]{20,}",  # Hugging Face
    r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}",
    r"\bglpat-[\w-]{20,}",  # GitLab
    r"\bsk-[\w-]{20,}",  # OpenAI, Anthropic
    r"\bxox[abeoprs]-[\w-]{10,}",  # Slack
    r"\bAIza[\w-]{35}|\bya29\.[\w.-]{10,}",  # Google
    r"\brpa_[A-Za-z0-9]{20,}",  # RunPod
    r"\bdo[opr]_v1_[a-f0-9]{32,}",  # DigitalOcean
    r"\bpul-[a-f0-9]{40}\b",  # Pulumi
    r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*",  # a JSON web token
    r"(\bhttps://hooks\.slack\.com/)\S+|(\bhttps://[\w.]*discord(?:app)?\.com/api/webhooks/)\S+",
    r"(\w://)[^/\s:@]+:[^/\s@]+(?=@)",  # a URL's user and password
    r"(?i)\b((?:bearer|basic) )[\w.~+/=-]{16,}",
    r"(?i)\b((?:x-(?:amz|goog)-(?:signature|security-token|credential)|sig)=)[^&\s\"']+",  # a presigned URL
    rf"(?i)((?:{NAMES_OF_SECRETS})[\"']?\s*[:=]\s*[\"']?)[^\s\"',;&]{{6,}}",
)


def redact(text: str, known: Iterable[str] = (), *, environment: Mapping[str, str] = os.environ) -> str:
    """The text without secrets: `known` ones, those of `environment`, and whatever has a key's shape."""
    for form in sorted(_forms({*known, *secrets_of(environment)}), key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    for shape in _shapes():
        text = shape.sub(_without, text)
    return text


@cache
def _shapes() -> tuple[re.Pattern[str], ...]:
    """Compiled once there is something to hide: that takes 5 ms, and most commands never fail."""
    return tuple(map(re.compile, SHAPES))


def secrets_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values of the variables that hold a secret, by their names."""
    return tuple(value for name, value in environment.items() if holds_secret(name, value))


def without_secrets(environment: Mapping[str, str], *, but: Iterable[str] = ()) -> dict[str, str]:
    """The variables for another process: none that holds a secret, but for those that it needs."""
    needed = frozenset(but)
    return {name: value for name, value in environment.items() if name in needed or not holds_secret(name, value)}


def holds_secret(name: str, value: str = "") -> bool:
    """Whether a variable's name says that its value is one (HF_TOKEN does, AWS_ACCESS_KEY_ID and SSH_KEY_FILE don't), or
    its value is an address with a password in it, as DATABASE_URL's is.
    """
    upper = name.upper()
    words = upper.split("_")
    if upper.endswith(SECRET_NAMES) or URL_WITH_PASSWORD.search(value):
        return True
    secret = not SECRET_WORDS.isdisjoint(words) or any(word.endswith(SECRET_ENDINGS) for word in words)
    return secret and words[-1] not in OPEN_ENDINGS


def _forms(secrets: Iterable[str]) -> Iterator[str]:
    """Each secret as it may stand in a text: plain, in JSON, in a URL, line by line."""
    import json  # both only where there is something to hide
    from urllib.parse import quote

    for secret in secrets:
        if len(secret) >= LEAST_CHARS:
            yield from {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], quote(secret, safe="")}
            yield from (line for line in secret.splitlines() if len(line) >= LEAST_LINE_CHARS)


def _without(match: re.Match[str]) -> str:
    """The match's group, which says what it was, and no more."""
    return "".join(part for part in match.groups() if part) + HIDDEN

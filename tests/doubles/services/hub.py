"""A double of the model hub: as much of its published API as huggingface_hub asks for, over real HTTP on loopback.

Nobody's credentials are checked, nothing is stored in chunks (Xet), and every weight file counts as one of Git LFS.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]

MODEL = re.compile(r"/api/(?:models/)?(?P<model>(?:datasets/)?[^/]+/[^/]+)/(?P<what>revision|tree)/(?P<revision>[^/]+)")
FILE = re.compile(r"/(?P<model>(?:datasets/)?[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass
class Hub:
    """What it holds, a data set as a model whose name begins with `datasets/`. `asked`: paths in the order of asking, with the
    second of each; `altered`: what is sent in place of a file's content; `busy`: which requests, from 0, are refused with the
    wish to be asked again after `retry_after_s`.
    """

    url: str = ""
    commits: dict[tuple[str, str], Files] = field(default_factory=dict)  # (model, commit) → its files
    names: dict[tuple[str, str], str] = field(default_factory=dict)  # (model, branch or tag) → commit
    moved: dict[str, str] = field(default_factory=dict)  # old name of a model → its name now
    altered: Files = field(default_factory=dict)
    sends_on_to: str = ""  # another server, for files
    told_tokens: list[str] = field(default_factory=list)  # paths that were asked for with one
    asked: list[str] = field(default_factory=list)
    asked_at_s: list[float] = field(default_factory=list)
    busy: range = range(0)
    retry_after_s: int = 1

    def commit(self, model: str, files: Files, *, branch: str = "main") -> str:
        """Make a commit the branch's newest; its 40 characters."""
        parts = (part for name in sorted(files) for part in (name.encode(), files[name]))
        commit = hashlib.sha1(b"\0".join((model.encode(), *parts))).hexdigest()
        self.commits[model, commit] = files
        self.names[model, branch] = commit
        return commit

    def found(self, model: str, revision: str) -> tuple[str, Files] | None:
        commit = self.names.get((model, revision), revision)
        files = self.commits.get((model, commit))
        return None if files is None else (commit, files)


def _is_lfs(name: str) -> bool:
    return name.endswith((".safetensors", ".parquet"))


def _described(name: str, content: bytes, *, key: str) -> dict[str, Any]:
    about: dict[str, Any] = {key: name, "size": len(content), ("oid" if key == "path" else "blobId"): _git(content)}
    if key == "path":
        about["type"] = "file"
    if _is_lfs(name):
        sha256 = hashlib.sha256(content).hexdigest()
        about["lfs"] = {"sha256": sha256, "oid": sha256, "size": len(content), "pointerSize": 134}
    return about


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Desk(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *_: Any) -> None:
        return

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        number = len(self.hub.asked)
        self.hub.asked.append(f"{self.command} {path}")
        self.hub.asked_at_s.append(time.monotonic())
        self.hub.told_tokens += [path] * ("Authorization" in self.headers)
        if number in self.hub.busy:
            self._say(429, b'{"error": "Too many requests"}', **{"Retry-After": str(self.hub.retry_after_s)})
        elif (found := MODEL.fullmatch(path)) is not None:
            self._model(**{name: unquote(value) for name, value in found.groupdict().items()})
        elif (found := FILE.fullmatch(path)) is not None:
            self._file(**{name: unquote(value) for name, value in found.groupdict().items()})
        else:
            self._say(404, b"{}")

    def _model(self, model: str, what: str, revision: str) -> None:
        if model in self.hub.moved:
            place = f"{self.hub.url}/api/models/{self.hub.moved[model]}/{what}/{revision}?{urlsplit(self.path).query}"
            return self._say(307, b"{}", Location=place)
        held = self.hub.found(model, revision)
        if held is None:
            return self._say(404, b'{"error": "Revision Not Found"}', **{"X-Error-Code": "RevisionNotFound"})
        commit, files = held
        if what == "tree":
            return self._say(200, json.dumps([_described(name, files[name], key="path") for name in files]).encode())
        siblings = [_described(name, files[name], key="rfilename") for name in files]
        return self._say(200, json.dumps({"id": model, "sha": commit, "siblings": siblings}).encode())

    def _file(self, model: str, revision: str, file: str) -> None:
        held = self.hub.found(model, revision)
        if held is None or file not in held[1]:
            return self._say(404, b"", **{"X-Error-Code": "EntryNotFound"})
        if self.hub.sends_on_to:
            return self._say(302, b"", Location=self.hub.sends_on_to + self.path)
        commit, files = held
        tag = hashlib.sha256(files[file]).hexdigest() if _is_lfs(file) else _git(files[file])
        return self._say(200, self.hub.altered.get(file, files[file]), **{"X-Repo-Commit": commit, "ETag": f'"{tag}"'})

    def _say(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def served(address: str = "127.0.0.1") -> Iterator[Hub]:
    """The hub at `Hub.url`."""
    hub = Hub()
    with ThreadingHTTPServer((address, 0), type("Desk", (_Desk,), {"hub": hub})) as server:
        hub.url = f"http://{address}:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield hub
        server.shutdown()

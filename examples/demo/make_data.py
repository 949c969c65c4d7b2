"""Write instruction pairs from the docstrings of the running Python's standard library.

    {"prompt": "What does `os.path.join` do?", "response": "Join two or more pathname components, inserting '/' as needed. …"}

Sources are parsed, not imported; the few modules written in C are imported, as they have no source. A module's rows go
all to the training file or all to the held-out file, and no answer stands in both: nothing leaks. The same Python gives
the same files.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import inspect
import itertools
import json
import math
import re
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

FOLDER = Path(__file__).parent / "generated"
C_MODULES = (builtins, itertools, math, time)
# Not the library a person asks about: tests, tools, and packages that a distribution may leave out.
LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip", "site-packages", "dist-packages", "__pycache__"}
PUBLIC_NAME = {"posixpath": "os.path", "_pyio": "io", "_pydecimal": "decimal", "_pydatetime": "datetime"}
TRAIN_ROWS = 1600
HELD_OUT_ROWS = 200
MIN_CHARACTERS, MAX_CHARACTERS = 30, 200


class Pair(NamedTuple):
    """A question about one name of one module, and the first paragraph of its docstring."""

    module: str
    prompt: str
    response: str


def first_paragraph(docstring: str, name: str) -> str | None:
    """The docstring's first prose paragraph on one line, or None where it says too little, too much or no prose."""
    signature = re.compile(rf"^{re.escape(name)}\(.*?\)(\s*->\s*[^\n]+)?(\n|\s+--\s+|$)", re.DOTALL)
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        text = " ".join(signature.sub("", paragraph).split())
        if not text:
            continue
        is_prose = (
            text[0].isupper() and text[-1] in ".:" and not re.search(r"[:@]param|>>>|--+|\[\d+\]|deprecat", text, re.IGNORECASE)
        )
        return text.rstrip(":") if is_prose and MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS else None
    return None


def questions(module: str, body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(prompt, short name, docstring) of every public function, class and method, in the order of the source."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        name = f"{prefix}{node.name}"
        verb = "What is" if isinstance(node, ast.ClassDef) else "What does"
        end = "?" if isinstance(node, ast.ClassDef) else " do?"
        if docstring := ast.get_docstring(node):
            yield f"{verb} `{module}.{name}`{end}", node.name, docstring
        if isinstance(node, ast.ClassDef):
            yield from questions(module, node.body, prefix=f"{name}.")


def from_source(path: Path, stdlib: Path) -> Iterator[Pair]:
    """The pairs of one source file; its module's name is what a person would import."""
    parts = path.relative_to(stdlib).with_suffix("").parts
    stem = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    module = PUBLIC_NAME.get(stem, stem)
    if any(part.startswith("_") for part in module.split(".")):
        return
    tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    if (docstring := ast.get_docstring(tree)) and (text := first_paragraph(docstring, module)):
        yield Pair(module, f"What is Python's module `{module}` for?", text)
    for prompt, name, docstring in questions(module, tree.body):
        if text := first_paragraph(docstring, name):
            yield Pair(module, prompt, text)


def from_module(module: ModuleType) -> Iterator[Pair]:
    """The pairs of a module written in C."""
    for name, member in sorted(vars(module).items()):
        if name.startswith("_") or not (callable(member) and isinstance(member.__doc__, str)):
            continue
        shown = name if module is builtins else f"{module.__name__}.{name}"
        if text := first_paragraph(member.__doc__, name):
            yield Pair(module.__name__, f"What is `{shown}`?" if isinstance(member, type) else f"What does `{shown}` do?", text)


def all_pairs() -> list[Pair]:
    """Every pair of the standard library, one for each question and for each answer: what two names share is asked once."""
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    found = itertools.chain(
        (
            pair
            for path in sorted(stdlib.rglob("*.py"))
            if not LEFT_OUT & set(path.parts[len(stdlib.parts) :])
            for pair in from_source(path, stdlib)
        ),
        (pair for module in C_MODULES for pair in from_module(module)),
    )
    by_prompt = {pair.prompt: pair for pair in reversed(list(found))}
    by_response = {pair.response.lower(): pair for pair in by_prompt.values()}
    return sorted(by_response.values(), key=lambda pair: hashlib.sha256(pair.prompt.encode()).hexdigest())


def is_held_out(module: str) -> bool:
    """One top-level package in five is held out, whole."""
    return hashlib.sha256(module.split(".", maxsplit=1)[0].encode()).digest()[0] % 5 == 0


def split(pairs: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Training rows and held-out rows, each cut to what five minutes on two cores can use."""
    train = [pair for pair in pairs if not is_held_out(pair.module)]
    held_out = [pair for pair in pairs if is_held_out(pair.module)]
    return train[:TRAIN_ROWS], held_out[:HELD_OUT_ROWS]


def render_jsonl(pairs: list[Pair]) -> str:
    """One JSON object a line, as the trainer reads it."""
    rows = ({"prompt": pair.prompt, "response": pair.response} for pair in pairs)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> int:
    """Write train.jsonl and held_out.jsonl and say what they hold."""
    train, held_out = split(all_pairs())
    if len(held_out) < HELD_OUT_ROWS:
        print(f"This Python's library gives {len(held_out)} held-out rows; {HELD_OUT_ROWS} are needed.", file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "train.jsonl").write_text(render_jsonl(train), encoding="utf-8")
    (FOLDER / "held_out.jsonl").write_text(render_jsonl(held_out), encoding="utf-8")
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"Data: {len(train)} training and {len(held_out)} held-out rows from the docstrings of Python {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

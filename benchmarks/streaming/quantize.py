"""How fast a base is packed in 4 bits from disk to disk, and in how much memory.

    python -m benchmarks.streaming.quantize [--write] [--gib 4]

A base of random weights, in files as the hub's are laid out, goes through `python -m remote quantize` in a process of its own;
then once more, when nothing is left to pack and each file is only compared, and a last time cut off with -9 and gone on with.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.machine import RESULTS, describe_machine

TITLE: Final = "# A base packed in 4 bits, from disk to disk"
RESULT: Final = RESULTS / "quantize.md"
GIB: Final = 2**30
MIB: Final = 2**20
LINUX_UNIT_BYTES: Final = 1024  # of ru_maxrss (getrusage(2))
HIDDEN, MLP, VOCABULARY, HEADS, KV_HEADS = 2048, 8192, 32_000, 16, 8  # of a base of 1B; more blocks make it larger
SHARDS: Final = 8


class Packed(NamedTuple):
    """What one turn took."""

    what: str
    read_bytes: int  # of the files that were packed in it
    written_bytes: int
    wall_s: float
    cpu_s: float
    peak_ram_bytes: int


def block_params() -> int:
    """Of one block's matrices."""
    head = HIDDEN // HEADS
    return HIDDEN * HIDDEN * 2 + 2 * HIDDEN * head * KV_HEADS + 3 * HIDDEN * MLP


def laid_out(folder: Path, size_bytes: int) -> tuple[int, ...]:
    """The sizes of the files of a base that a process of its own makes: a process's peak is handed on to what it starts
    (getrusage(2)), and this one starts those that are measured.
    """
    ours = "from pathlib import Path; from benchmarks.streaming.quantize import lay_out"
    make = f"{ours}; lay_out(Path({str(folder)!r}), {size_bytes})"
    subprocess.run([sys.executable, "-c", make], check=True, capture_output=True)
    return tuple(file.stat().st_size for file in sorted(folder.glob("*.safetensors")))


def lay_out(folder: Path, size_bytes: int) -> None:
    """A base of about that size in bfloat16, of normal weights: zeros would pack as fast, and nobody would know."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from remote.data.byte_tokenizer import byte_tokenizer

    blocks = max(1, size_bytes // 2 // block_params())
    config = AutoConfig.for_model(
        "llama",
        hidden_size=HIDDEN,
        intermediate_size=MLP,
        vocab_size=VOCABULARY,
        num_hidden_layers=blocks,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
    )
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size=f"{max(1, size_bytes // SHARDS // 10**6)}MB")
    byte_tokenizer().save_pretrained(folder)


def packed(what: str, base: Path, into: Path, *, cut_after: int | None = None) -> Packed:
    """One turn. `cut_after`: so many files are packed, and the process that packs the next is killed."""
    words = [sys.executable, "-m", "remote", "quantize", str(base), "--into", str(into)]
    started_s = time.perf_counter()
    read = written = 0
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if "error" in told:
                raise RuntimeError(told["error"])
            if told.get("packed_now"):
                read, written = read + told["read_bytes"], written + told["written_bytes"]
            if told.get("number") == cut_after:
                time.sleep(0.3)  # into the next file
                process.kill()
                break
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Packed(
        what,
        read,
        written,
        time.perf_counter() - started_s,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss * LINUX_UNIT_BYTES,
    )


def measured(size_bytes: int, folder: Path) -> tuple[tuple[int, ...], list[Packed], int]:
    """The sizes of the base's files, the turns, and the RAM of a process that packs next to nothing."""
    little, base = folder / "little", folder / "base"
    laid_out(little, 1)
    sizes = laid_out(base, size_bytes)
    idle = packed("", little, folder / "little-packed").peak_ram_bytes
    turns = [
        packed("all of it", base, folder / "packed"),
        packed("nothing: each file is there, and compared", base, folder / "packed"),
        packed("killed with -9 within a file", base, folder / "again", cut_after=len(sizes) // 2),
        packed("the rest of that one", base, folder / "again"),
    ]
    same = (folder / "packed" / "packed.json").read_bytes() == (folder / "again" / "packed.json").read_bytes()
    if not same:
        raise RuntimeError("what was cut off and gone on with is not what was packed at once")
    return sizes, turns, idle


def table(sizes: tuple[int, ...], turns: list[Packed], idle_bytes: int) -> str:
    largest = max(sizes)
    words = (
        f"A base of {sum(sizes) / GIB:.1f} GiB in bfloat16, in {len(sizes)} files of up to {largest / MIB:,.0f} MiB, is packed",
        "in nf4 with double quantization. Seconds are those of whole processes: the second row's are, but for the hashes,",
        "what loading the libraries takes.",
        f"With a base of one block such a process takes {idle_bytes / MIB:,.0f} MiB of RAM; the last column is what is above",
        "that, in files of the base. What was killed and gone on with has the hashes of what was packed at once.",
        f"Load of the machine: {os.getloadavg()[0]:.1f}.",
    )
    lines = [
        TITLE,
        "",
        describe_machine(),
        "",
        " ".join(words),
        "",
        "| packed | read, MiB | written, MiB | s | CPU s | GB/s | GB / CPU s | peak RAM, MiB | files at once |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {turn.what} | {turn.read_bytes / MIB:,.0f} | {turn.written_bytes / MIB:,.0f} | {turn.wall_s:.1f} |"
        f" {turn.cpu_s:.1f} | {turn.read_bytes / turn.wall_s / 1e9:.3f} | {turn.read_bytes / turn.cpu_s / 1e9:.3f} |"
        f" {turn.peak_ram_bytes / MIB:,.0f} | {max(0, turn.peak_ram_bytes - idle_bytes) / largest:.2f} |"
        for turn in turns
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"also write {RESULT.name}")
    parser.add_argument("--gib", type=float, default=4.0, help="size of the base")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shown = table(*measured(int(asked.gib * GIB), Path(folder)))
    sys.stdout.write(shown)
    if asked.write:
        RESULT.write_text(shown, encoding="utf-8")


if __name__ == "__main__":
    main()

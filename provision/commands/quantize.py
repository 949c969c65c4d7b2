"""`rentune quantize`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from planner.asking.options.plain import OneOf
from remote.contract import DOUBLE_QUANTS, PACKED_HERE

if TYPE_CHECKING:
    from remote.contract import PackedFile

DTYPES: Final = ("bfloat16", "float16", "float32")


@click.command("quantize")
@click.argument("base")
@click.option(
    "--into", type=click.Path(path_type=Path), required=True, help="Folder for what is packed; what was begun there goes on."
)
@click.option("--quant", type=OneOf(PACKED_HERE), default=PACKED_HERE[0], help="How weights are packed (default nf4).")
@click.option("--single-quant", is_flag=True, help="Leave the scales in 32 bits: a job says double_quant false then.")
@click.option("--dtype", type=OneOf(DTYPES), default=DTYPES[0], help="Of all else (default bfloat16).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(base: str, into: Path, quant: str, single_quant: bool, dtype: str, as_json: bool) -> int:  # noqa: FBT001 - click
    """Pack a base in 4 or 8 bits on this disk, before anything is rented.

    BASE is a model folder, or a hub id. Each file of weights is packed by itself, so the base never is in memory as a whole;
    what was cut off goes on where it was. The folder is a model for jobs with that quantization: a quarter or half as large
    to upload, and packed only once.
    """
    import sys

    from provision.envelope.show import show
    from provision.prepare.quantizing import Packing, quantize_here

    def tell(shard: PackedFile) -> None:
        if sys.stderr.isatty():
            click.echo(f"{shard.number} of {shard.of}: {shard.file}{'' if shard.packed_now else ', which was there'}", err=True)

    double_quant = quant in DOUBLE_QUANTS and not single_quant
    asked = Packing(base=base, into=into, quant=quant, double_quant=double_quant, dtype=dtype)  # type: ignore[arg-type]
    shards = quantize_here(asked, tell)
    data: dict[str, Any] = {
        "folder": str(into),
        "quant": quant,
        "double_quant": double_quant,
        "dtype": dtype,
        "files": len(shards),
        "packed_now": sum(shard.packed_now for shard in shards),
        "read_bytes": sum(shard.read_bytes for shard in shards),
        "written_bytes": sum(shard.written_bytes for shard in shards),
    }
    return show("quantize", data, lambda: _draw(data), as_json=as_json)


def _draw(data: dict[str, Any]) -> None:
    from planner.units import GB
    from provision.envelope.show import say

    read, written, double = data["read_bytes"] / GB, data["written_bytes"] / GB, str(data["double_quant"]).lower()
    say(f"{data['folder']} holds the base in {data['quant']}: {written:.1f} GB of {read:.1f}.")
    say(f"{data['packed_now']} of {data['files']} files were packed now.")
    how = f"quant: {data['quant']}, double_quant: {double} and param_dtype: {data['dtype']}"
    click.echo(f"In a job: model: {data['folder']}; a plan takes {how} from there.")

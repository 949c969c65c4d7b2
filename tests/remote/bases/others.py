"""python -m tests.remote.bases.others HOW FOLDER: pack a tiny base by HOW's own library, train over it, say what came of it.

A program of its own: it needs packages that are in neither the box nor the tests' own environment (`make packed`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import torch

from remote.__main__ import carry_out
from remote.bases.base import load_base
from remote.bases.on_disk import prepare_base
from remote.contract import OUTCOME_FILE, ModelSource, Outcome, Quant, Strategy, decode
from remote.data.byte_tokenizer import byte_tokenizer
from remote.watch import Watch
from tests.remote.conftest import CONFIG, LOOP, STRATEGY, Asked, lay_out, questions, spec_of

# gptqmodel's AWQ clips 64 outputs at a time, and hqq's writer takes no tensor twice.
SHAPE: Final = CONFIG | {"num_key_value_heads": 4, "tie_word_embeddings": False}
IN_16_BITS: Final = msgspec.structs.replace(STRATEGY, param_dtype="bfloat16", target_modules="all-linear", dropout=0.1)
WIDTH: Final = {"bits": 4, "group_size": 32}
READ_BY_PACKER: Final = [f"What is {n} plus {n + 1}? The answer is {2 * n + 1}. " * 4 for n in range(8)]


class Found(msgspec.Struct, frozen=True):
    """What came of it."""

    drift: float  # of the packed base's logits from the plain one's: root of mean squares, in shares of these
    linear: str  # the class that a packed linear is trained over in
    whole: Outcome
    stopped: Outcome
    resumed: Outcome


def by_gptqmodel(how: str, form: str) -> Callable[[str, Path], None]:
    def pack(base: str, into: Path) -> None:
        os.environ["GPTQMODEL_CPU_WORKERS"] = "2"  # of one, as it would take on two cores, it says itself that it can't begin
        from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

        model = GPTQModel.load(base, QuantizeConfig(quant_method=how, format=form, **WIDTH), device="cpu")
        model.quantize(READ_BY_PACKER, batch_size=1, backend=BACKEND.TORCH)
        model.save(str(into))

    return pack


def by_hqq(base: str, into: Path) -> None:
    """As hqq 0.2.8 writes it, whose config.json says nothing of it."""
    from hqq.core.quantize import BaseQuantizeConfig
    from hqq.models.hf.base import AutoHQQHFModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    config = BaseQuantizeConfig(nbits=WIDTH["bits"], group_size=WIDTH["group_size"])
    AutoHQQHFModel.quantize_model(model, quant_config=config, compute_dtype=torch.bfloat16, device="cpu")
    AutoHQQHFModel.save_to_safetensors(model, str(into))


PACK: Final[Mapping[str, Callable[[str, Path], None]]] = {
    "gptq": by_gptqmodel("gptq", "gptq"),
    "awq": by_gptqmodel("awq", "gemm"),
    "hqq": by_hqq,
}


PLANNED: Final[Mapping[str, Quant]] = {"gptq": "gptq_int4", "awq": "awq_int4", "hqq": "hqq_int4"}  # the quant of a plan over it


def run(job: Path, watch: Watch) -> Outcome:
    carry_out(job, watch=watch)
    return decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)


def logits(base: str) -> torch.Tensor:
    ids = torch.arange(5, 69)[None]
    with torch.no_grad():
        found: torch.Tensor = load_base(base, IN_16_BITS, "cpu")(input_ids=ids, use_cache=False).logits.float()
    return found


def main(how: str, folder: Path) -> None:
    """Write `found.json` into `folder`."""
    (folder / "config.json").write_text(json.dumps(SHAPE))
    shape = ModelSource(kind="config", location=str(folder / "config.json"))
    plain = prepare_base(shape, cache=folder, dtype="bfloat16", seed=1)
    packed = folder / "packed"
    PACK[how](plain, packed)
    byte_tokenizer().save_pretrained(packed)
    expected = logits(plain)
    linear: Any = load_base(str(packed), IN_16_BITS, "cpu").model.layers[0].mlp.up_proj
    source = ModelSource(kind="folder", location=str(packed))
    planned = msgspec.structs.replace(IN_16_BITS, quant=PLANNED[how])
    jobs = {name: lay_out(folder / name, job_over(name, source, planned), questions(100)) for name in ("unbroken", "broken")}
    found = Found(
        drift=float((logits(str(packed)) - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt()),
        linear=type(linear).__name__,
        whole=run(jobs["unbroken"], Watch()),
        stopped=run(jobs["broken"], Asked(looks=24)),
        resumed=run(jobs["broken"], Watch()),
    )
    (folder / "found.json").write_bytes(msgspec.json.encode(found))


def job_over(name: str, source: ModelSource, strategy: Strategy = IN_16_BITS) -> Any:
    return msgspec.structs.replace(spec_of(name, strategy, LOOP), model=source)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

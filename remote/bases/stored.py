"""How a base's weights are stored on the disk, what reads them there, and which of that the trainer trains on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from remote.bases.hqq import holds_hqq
from remote.contract import PACKED_KEY, STORED_QUANTS, Strategy, Task
from remote.ends import bad_job
from remote.quantized.index import require_whole


class Reader(NamedTuple):
    """What it takes to train on weights that somebody else has packed in one way."""

    packages: tuple[str, ...] = ()  # that transformers 5.24 reads them with, beside those of the box
    methods: tuple[str, ...] | None = None  # that were seen to train over them and to come home; None = as over any base
    # To the configuration, by kind of device, for kernels with a backward pass: left to choose, gptqmodel takes others.
    told: Mapping[str, Mapping[str, str]] = {}
    tasks: tuple[Task, ...] = ("causal_lm", "classification", "seq2seq")


# Those that were tried: 2026-11-28, gptqmodel 7.7, optimum 2.3, hqq 0.2.8 and peft 0.21, on a CPU. Of any other transformers
# may read less than is there: of HQQ's files it draws all linears at random, so `remote.bases.hqq` reads them.
HQQ: Final = "hqq"
_TRIED: Final = ("lora", "rslora", "lora_plus")
_ON_CARDS: Final = {"backend": "auto_trainable"}
READERS: Final[Mapping[str, Reader]] = {
    "bitsandbytes": Reader(),
    # On a CPU it builds a kernel for minutes before it chooses another; the one in plain torch is told by name.
    "gptq": Reader(("optimum", "gptqmodel"), _TRIED, {"cuda": _ON_CARDS, "cpu": {"backend": "torch"}}),
    "awq": Reader(("gptqmodel",), _TRIED, {"cuda": _ON_CARDS, "cpu": {"backend": "torch_awq"}}),
    HQQ: Reader(packages=("hqq",), methods=_TRIED, tasks=("causal_lm",)),
}


class Stored(NamedTuple):
    """What a base's config.json says of its weights."""

    packed_here: bool  # by `remote.quantized`
    by_others: Mapping[str, Any] | None  # how these have packed them, in transformers' keys; None = they lie there plain

    @property
    def how(self) -> str | None:
        """The way in which others have packed them, by transformers' name; None where they don't name one."""
        return None if self.by_others is None else self.by_others.get("quant_method")

    @property
    def bits(self) -> int | None:
        """Of a weight; None where they don't say it."""
        said = self.by_others or {}
        bits: int | None = said.get("bits", said.get("quant_config", {}).get("weight_quant_params", {}).get("nbits"))
        return bits

    def to_train(self, device: str) -> Mapping[str, Any] | None:
        """What the configuration has to say in place of what it says, so that they can be trained on there; None = nothing."""
        told = READERS.get(self.how or "", Reader()).told.get(device.partition(":")[0])
        return None if told is None else {**(self.by_others or {}), **told}


def read_stored(folder: str) -> Stored:
    """How the weights in `folder` are stored."""
    config = json.loads((Path(folder) / "config.json").read_bytes())
    by_others = config.get("quantization_config")
    if by_others is None and holds_hqq(Path(folder)):  # its own `save_to_safetensors` says nothing in config.json
        by_others = {"quant_method": HQQ}
    return Stored(packed_here=PACKED_KEY in config, by_others=by_others)


def check_stored(folder: str, strategy: Strategy, task: Task = "causal_lm") -> None:
    """Raise `Ended` (bad job) for weights that are stored packed where nothing here reads them, or the job packs them again; of
    those that `remote.quantized` packed, where they are not as it left them, or not as the job wants them.
    """
    stored = read_stored(folder)
    if stored.packed_here and require_whole(Path(folder), strategy):
        return
    if stored.by_others is not None:
        _require_readable(stored.how or "a way that they don't name", stored.bits, strategy, task)
    elif strategy.quant in STORED_QUANTS:
        raise bad_job(f"the base's weights are not stored in {STORED_QUANTS[strategy.quant]}, as quant {strategy.quant} says")


def _require_readable(how: str, bits: int | None, strategy: Strategy, task: Task) -> None:
    reader = READERS.get(how)
    if reader is None:
        raise bad_job(
            f"the base's weights are stored in {how}, which this trainer can't read; name the base that it was made from"
        )
    lacking = [package for package in reader.packages if find_spec(package) is None]
    if lacking:
        raise bad_job(
            f"the base's weights are stored in {how}, and what reads them is not installed here: {' and '.join(lacking)}; "
            "name the base that it was made from"
        )
    if strategy.quant != "none" and STORED_QUANTS.get(strategy.quant) != how:
        raise bad_job(f'the base\'s weights are stored in {how}, and quant {strategy.quant} packs them again; use quant "none"')
    if strategy.quant != "none" and bits is not None and not strategy.quant.endswith(f"int{bits}"):
        raise bad_job(f"the base's weights are stored in {bits} bits, and the job says quant {strategy.quant}")
    if reader.methods is not None and strategy.method not in reader.methods:
        raise bad_job(f"method {strategy.method} was not tried on weights stored in {how}; use {' or '.join(reader.methods)}")
    if task not in reader.tasks:
        raise bad_job(f"task {task} was not tried on weights stored in {how}; use {' or '.join(reader.tasks)}")
    if reader.packages and strategy.offload == "stream":
        raise bad_job(f'weights stored in {how} can\'t be streamed; use offload "none"')

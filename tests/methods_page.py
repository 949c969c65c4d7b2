"""docs/methods.md, made from the tables that the program itself goes by. `make docs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import registry, resolve_model
from planner.asking.case import read_case, strategy_of
from planner.estimators.memory import estimate_vram
from planner.methods import supported_methods
from planner.refusals import CaseRefused
from remote.contract import CAPABILITIES

PAGE: Final = Path(__file__).parents[1] / "docs" / "methods.md"
EXACT, CLOSED, REFUSED = "exact", "closed", "–"
BEGIN: Final = """\
# Methods

Made from the code by `make docs`. What `rentune estimate` can say of each method on each type of model in the catalog, of
unquantized weights and peft's own ranks:

- **exact**: by the closed form, and by a trace of the trainer's own step (`engine: trace`), which also means that the trainer
  carries the method out;
- **closed**: by the closed form alone;
- **–**: refused; the reasons stand below.

Both are held against each other on Llama, Qwen 2 and GPT-2 for every method that hangs on linears, and for LoRA, QLoRA and full
fine-tuning on twenty-nine bases (`benchmarks/estimates/trace_against_closed.py`).
[benchmarks/results/methods_by_family.md](../benchmarks/results/methods_by_family.md) has each method trained for real.

A method of peft that has no column has neither a closed form nor a row in the trainer. `rentune estimate --method NAME` (its
`peft_type` in lower case) traces a step of it by peft's own defaults where that can be done:
[benchmarks/results/methods_of_peft.md](../benchmarks/results/methods_of_peft.md) says of which.

A higher rank never takes less memory, but of two methods. OFT's rank counts the blocks of a rotation: the more of them, the
smaller each, and the adapter. LoKr's cuts its large factor of m × n in two of m × r and r × n where r is below half of the
longer side (peft's rule), and leaves it whole from there on; cut in two it has r · (m + n) parameters, which may be more than
the m · n of the whole. `plan` says so where a rank that was said is such a one.
"""
LEAST: Final = {"num_virtual_tokens": 20, "trainable_layers": 1}  # what some methods can't do without


def _bases() -> dict[str, Architecture]:
    """The first base of each model type in the catalog."""
    found: dict[str, Architecture] = {}
    for row in registry():
        architecture = resolve_model(row.name)
        found.setdefault(architecture.model_type, architecture)
    return dict(sorted(found.items()))


def _answer(method: str, base: Architecture) -> tuple[str, str]:
    """The word of a cell, and why it is a refusal."""
    said = {"model": base.name, "method": method, "seq_len": 128, "gradient_checkpointing": "off", **LEAST}
    try:
        estimate_vram(base, strategy_of(read_case(said)))
    except CaseRefused as refusal:
        return REFUSED, refusal.message.replace(base.name, "this base")
    traced = method in CAPABILITIES.methods and base.kind == "decoder" and not base.remote_code
    return (EXACT if traced else CLOSED), ""


def render_page() -> str:
    """The whole page."""
    bases, columns = _bases(), tuple(supported_methods())
    answers = {(name, method): _answer(method, base) for name, base in bases.items() for method in supported_methods()}
    lines = [f"| type of model | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    lines += [f"| {name} | {' | '.join(answers[name, method][0] for method in columns)} |" for name in bases]
    return "\n\n".join((BEGIN.rstrip(), "\n".join(lines), "## Why not", "\n".join(_reasons(answers)))) + "\n"


def _reasons(answers: dict[tuple[str, str], tuple[str, str]]) -> Iterator[str]:
    """Each sentence once, with the methods and the types that it is about."""
    about: dict[str, list[tuple[str, str]]] = {}
    for place, (_, why) in answers.items():
        if why:
            about.setdefault(why, []).append(place)
    num_bases = len({name for name, _ in answers})
    for why, places in about.items():
        names, methods = (tuple(dict.fromkeys(words)) for words in zip(*places, strict=True))
        where = "every type" if len(names) == num_bases else ", ".join(names)
        yield f"- {', '.join(methods)} on {where}: {why}."

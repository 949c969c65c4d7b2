"""What is said of every method of the installed peft: trained parameters counted by both, and what else a trace can answer.

    python -m benchmarks.estimates.methods_of_peft [--write]

On bases cut to two blocks, without weights. First the methods that have a closed form: our count against that of the trainer's
own adapter. Then those that have none, by peft's defaults: traced, with the count, or refused, with the reason.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from benchmarks.estimates.trace_cases import cut
from benchmarks.machine import RESULTS, describe_machine
from catalogs.bases.models import resolve_model
from planner.asking.case import read_case, strategy_of
from planner.estimators.trace import trace_counted
from planner.estimators.trace.autocast import Casts
from planner.estimators.trace.pose import posing_as_cuda
from planner.methods import METHODS, supported_methods, trainable_params
from planner.methods.others import OTHERS
from planner.refusals import CaseRefused

RESULT: Final = RESULTS / "methods_of_peft.md"
FAMILIES: Final = ("llama-3.2-1b", "qwen2.5-0.5b", "gpt2", "bloom-560m")
TRACED_FAMILIES: Final = ("llama-3.2-1b", "gpt2")
LAYERS: Final = 2
LEAST: Final[dict[str, Any]] = {"num_virtual_tokens": 20, "trainable_layers": 2, "gradient_checkpointing": "off"}
TRACED: Final[dict[str, Any]] = {"num_virtual_tokens": 20, "micro_batch_size": 2, "seq_len": 256}


class Cell(NamedTuple):
    """One method on one base."""

    method: str
    family: str
    words: str  # of the table
    refused: str  # why, where it is


def counted_cell(method: str, family: str) -> Cell:
    """The count of a method with a closed form, with that of the real adapter where the two differ."""
    config = cut(resolve_model(family, base=None).config, LAYERS)
    try:
        strategy = strategy_of(read_case({"model": config, "method": method, **LEAST}))
        ours = trainable_params(resolve_model(config, base=None), strategy)
    except CaseRefused as refusal:
        return Cell(method, family, "–", refusal.message)
    theirs = _counted_by_trainer(dict(config), strategy)
    return Cell(method, family, f"{ours:,}" if ours == theirs else f"**{ours:,}, peft {theirs:,}**", "")


def _counted_by_trainer(config: dict[str, Any], strategy: Any) -> int:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    from remote.adapters import adapt
    from remote.contract import Loop

    made = AutoConfig.for_model(config.pop("model_type"), **config)
    with posing_as_cuda(Casts()), torch.device("meta"):  # BOFT reads values of its own, but not then
        with no_init_weights():
            base = AutoModelForCausalLM.from_config(made)
        base.tie_weights()
        model = adapt(base, strategy, Loop())
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def traced_cell(method: str, family: str) -> Cell:
    """What a trace says of a method without a closed form."""
    config = cut(resolve_model(family, base=None).config, LAYERS)
    try:
        strategy = strategy_of(read_case({"model": config, "method": method, **TRACED}))
        found = trace_counted(config, strategy)
    except CaseRefused as refusal:
        return Cell(method, family, "–", refusal.message)
    return Cell(method, family, f"exact, {found.num_trained:,}", "")


def table(cells: list[Cell], families: tuple[str, ...]) -> Iterator[str]:
    """A row for each method, a column for each base."""
    yield f"| method | {' | '.join(families)} |"
    yield f"| --- |{' --- |' * len(families)}"
    words = {(cell.method, cell.family): cell.words for cell in cells}
    for method in dict.fromkeys(cell.method for cell in cells):
        yield f"| {method} | {' | '.join(words[method, family] for family in families)} |"


def reasons(cells: list[Cell]) -> Iterator[str]:
    """Each refusal of the tables."""
    for cell in cells:
        if cell.refused:
            yield f"- {cell.method} on {cell.family}: {cell.refused.rstrip('.')}."


def report() -> str:
    """The result file."""
    counted = [counted_cell(method, family) for method in supported_methods() for family in FAMILIES]
    traced = [traced_cell(method, family) for method in OTHERS for family in TRACED_FAMILIES]
    answered, equal = [cell for cell in counted if not cell.refused], [cell for cell in counted if cell.words[0].isdigit()]
    exact = {cell.method for cell in traced if not cell.refused}
    closed = (
        f"{len(equal)} of {len(answered)} counts equal those of the trainer's own adapter; where one differs, "
        f"both stand there. {len(METHODS) - len(OTHERS)} methods, {len(FAMILIES)} bases."
    )
    without = (
        f"{len(exact)} of {len(OTHERS)} can be traced on at least one of these bases, with the rank that peft gives them; the "
        "cell has the trained parameters."
    )
    parts = (
        f"# Every method of the installed peft\n\nOn bases cut to {LAYERS} blocks.",
        describe_machine(),
        "## With a closed form: trained parameters",
        closed,
        "\n".join(table(counted, FAMILIES)),
        "## Without one: traced by peft's own defaults",
        without,
        "\n".join(table(traced, TRACED_FAMILIES)),
        "## Why not",
        "\n".join((*reasons(counted), *reasons(traced))),
        "By `python -m benchmarks.estimates.methods_of_peft --write`.",
    )
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    said = parser.parse_args()
    warnings.simplefilter("ignore")  # peft says what it does by default; that is what is asked for
    text = report()
    print(text)
    if said.write:
        RESULT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

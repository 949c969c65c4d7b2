"""The options of `plan` and `run`, said once: one table makes the click options and the `Request`.

Names are the keys of the estimate contract with dashes. Nothing but click is imported until an answer is wanted, so
that `--help` stays quick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click
import msgspec

from planner.asking.options.kinds import (
    ACCURACY,
    CARDS,
    COLUMN,
    COUNT,
    DEPLOYMENT,
    HOURS,
    LEASE,
    POLICY_KEY,
    PROVIDER,
    SIZE,
    TAG,
    TASK,
    USD,
    USE_CASE,
    WORDS,
    Once,
)
from planner.asking.options.plain import OneOf, Pairs, PlainOption
from planner.choice.goals import GOALS

F = TypeVar("F", bound=Callable[..., Any])


# Names that Transformers, TRL and PEFT give to what options here say, by our first; with underscores or with dashes
ALSO: Final[Mapping[str, tuple[str, ...]]] = {
    "--model": ("--model-name-or-path",),
    "--revision": ("--model-revision",),
    "--epochs": ("--num-train-epochs",),
    "--rank": ("--lora-r",),
    "--alpha": ("--lora-alpha",),
    "--dropout": ("--lora-dropout",),
    "--target-modules": ("--lora-target-modules",),
    "--seq-len": ("--max-length", "--max-seq-length"),
    "--micro-batch-size": ("--per-device-train-batch-size",),
    "--optimizer": ("--optim",),
}


class Option(msgspec.Struct, frozen=True):
    """One option, and the field of the Request that it fills ("training.rank", "where.gpus")."""

    flags: tuple[str, ...]
    field: str
    kind: click.ParamType[Any] | type
    help: str
    multiple: bool = False

    @property
    def parameter(self) -> str:
        """The name under which click hands the value over."""
        return self.flags[0].lstrip("-").partition("/")[0].replace("-", "_")


OPTIONS: Final[tuple[Option, ...]] = (
    Option(("--model",), "model", str, 'Size ("32b"), registry name, hub id, config.json, model folder or GGUF file.'),
    Option(("--revision",), "revision", str, "Commit, tag or branch of a hub's base (default its newest commit)."),
    Option(
        ("--task",),
        "task",
        TASK,
        "What is learned of rows: causal_lm (default), a label (classification), an answer (seq2seq, T5).",
    ),
    Option(("--data",), "data", str, "JSONL, JSON, CSV, Parquet or text file, or hub:OWNER/NAME; its tokens are counted."),
    Option(
        ("--column",),
        "columns",
        COLUMN,
        "NAME=COLUMN: which column of --data is the text, label, prompt, completion, …; may be repeated.",
        multiple=True,
    ),
    Option(("--examples",), "examples", COUNT, "Number of examples; of a data file, its first so many rows."),
    Option(("--tokens",), "tokens", COUNT, "Tokens in one pass over the examples (500k, 2M)."),
    Option(("--epochs",), "loop.epochs", float, "Passes over the data (default 3)."),
    Option(("--max-steps",), "loop.max_steps", int, "At most so many optimizer steps."),
    Option(
        ("--learning-rate", "--lr"), "loop.learning_rate", float, "Peak of the learning rate (default as the method needs)."
    ),
    Option(
        ("--use-case",),
        "purpose.use_case",
        USE_CASE,
        "What it is for (classification, extraction, chat, code, summarization, translation, style): advises the rest.",
    ),
    Option(("--deployment",), "purpose.deployment", DEPLOYMENT, "Where it will answer: many_adapters, merged or edge."),
    Option(("--accuracy",), "purpose.accuracy", ACCURACY, "highest: where the last point counts more than memory."),
    Option(("--imbalance",), "purpose.imbalance", float, "Rows of the commonest class for each of the rarest."),
    Option(("--method",), "training.method", str, "auto (default), lora, qlora, full, or another method."),
    Option(("--rank",), "training.rank", int, "Rank of the adapters (default 16)."),
    Option(("--alpha",), "training.alpha", float, "Scale of the adapters (default twice the rank)."),
    Option(("--dropout",), "training.dropout", float, "Dropout of the adapters (default 0)."),
    Option(("--target-modules",), "training.target_modules", WORDS, "all-linear (default), default, or q_proj,v_proj,…"),
    Option(("--quant",), "training.quant", str, "none, nf4, int8, …: how the frozen weights are held."),
    Option(("--seq-len",), "training.seq_len", int, "Longest sequence in tokens; longer ones are cut."),
    Option(("--micro-batch-size",), "training.micro_batch_size", int, "Sequences per GPU and forward pass."),
    Option(("--global-batch-size",), "global_batch_size", int, "Sequences per optimizer step (default 16)."),
    Option(("--gradient-accumulation-steps",), "training.gradient_accumulation_steps", int, "Passes per optimizer step."),
    Option(("--gradient-checkpointing",), "training.gradient_checkpointing", str, "off, reentrant or non_reentrant."),
    Option(("--optimizer",), "training.optimizer", str, "adamw_torch_fused (default), adamw_8bit, …"),
    Option(
        ("--gpu",), "where.gpus", str, 'Only this GPU; may be repeated. "here": this machine\'s own beside them.', multiple=True
    ),
    Option(
        ("--power-price",),
        "where.power_usd_per_kwh",
        USD,
        "Dollars per kWh of your electricity (--gpu here, --gpus).",
    ),
    Option(
        ("--offload-disk/--no-offload-disk",),
        "where.offload_disk",
        bool,
        "Streamed blocks for which RAM is short wait on the box's disk (slow).",
    ),
    Option(("--num-gpus",), "where.num_gpus", int, "Only machines with this many GPUs."),
    Option(("--gpu-budget", "--max-vram"), "where.gpu_memory_gib", SIZE, 'Memory per GPU at most, as sold ("16GB" = 16 GiB).'),
    Option(("--provider",), "where.providers", PROVIDER, "Only this provider; may be repeated.", multiple=True),
    Option(("--region",), "where.regions", str, "Only this region; may be repeated.", multiple=True),
    Option(("--spot/--on-demand",), "where.spot", bool, "Only spot, or only on-demand machines (default both)."),
    Option(("--host",), "where.host", str, "user@address of a machine that you have."),
    Option(("--allow-from",), "where.allow_from", str, "CIDR that may reach SSH on the box; may be repeated.", multiple=True),
    Option(("--max-cost",), "budget.max_usd", USD, "Dollars that the whole job may cost (held at p90)."),
    Option(("--max-hours",), "budget.max_hours", HOURS, "Hours that the whole job may take (held at p90); then it is ended."),
    Option(
        ("--lease",),
        "budget.lease_hours",
        LEASE,
        "Without a controller for so long (2h) the box saves, ends the training and itself (default: its deadline alone does).",
    ),
    Option(
        ("--goal",),
        "budget.goal",
        OneOf(GOALS),
        "What the recommended plan has least of: dollars (default), hours, or both together.",
    ),
    Option(
        ("--keep-volume",),
        "keep.volume_name",
        str,
        "Name of a disk that holds what was downloaded, made once and used again: it outlives the box and bills by the month.",
    ),
    Option(
        ("--keep-environment/--no-keep-environment",),
        "keep.environment",
        bool,
        "On a host of yours: leave the trainer's packages there for the next run (default).",
    ),
    Option(("--tag",), "tags", TAG, "key=value on everything that is rented; may be repeated.", multiple=True),
    Option(
        ("--overrule-policy",),
        "overruled",
        POLICY_KEY,
        "Set a key of your own policy.toml aside, on record; may be repeated.",
        multiple=True,
    ),
    Option(("--top",), "top", int, "So many of the cheapest plans, and of those that can be run (default 5)."),
)

BY_FIELD: Final[Mapping[str, Option]] = {option.field: option for option in OPTIONS}
DATA_FIELDS: Final = ("data", "columns", "examples", "tokens")  # together they make one DataAsked

FLAG: Final[Mapping[str, Any]] = {"cls": PlainOption, "is_flag": True}
FILE: Final[Mapping[str, Any]] = {"cls": Once, "metavar": "FILE"}
VIEW_OPTIONS: Final[tuple[tuple[str, str, Mapping[str, Any]], ...]] = (
    (
        "--gpus",
        'Cards of one machine of yours ("2xRTX 3090", "4x24GB"): how each way to share them holds the job; by name an offer.',
        {"cls": Once, "type": CARDS},
    ),
    ("--ram", "RAM of the machine with those cards (--gpus), for what would wait there.", {"cls": Once, "type": SIZE}),
    ("--which-model", "Instead of one base's plans: the largest base of each family that the card holds, with its plan.", FLAG),
    ("--explain", "Show where memory, time, dollars and every choice come from.", FLAG),
    ("--html", "Write the answer with a plot of dollars against hours, in one HTML file.", FILE),
    ("--json", "Print the answer as JSON.", FLAG),
    ("--save", "Write the recommended plan: FILE.json for `run`, FILE.yaml as a commented job file.", FILE),
    ("--force", "Let --save write over a file that says something else.", FLAG),
)


def request_options(command: F) -> F:
    """Decorator: the optional JOB argument and every option of the table, on a click command."""
    for option in reversed(OPTIONS):
        how: dict[str, Any] = {"cls": Once}
        if option.multiple:
            how = {"cls": Pairs} if option.kind in (TAG, COLUMN) else {"cls": PlainOption, "multiple": True}
        how["also"] = ALSO.get(option.flags[0], ())
        command = click.option(*option.flags, option.parameter, type=option.kind, help=option.help, **how)(command)
    return click.argument("job", required=False, metavar="[JOB.yaml|plan.json]")(command)


def view_options(command: F) -> F:
    """Decorator: how `plan` shows its answer."""
    for flag, text, how in reversed(VIEW_OPTIONS):
        command = click.option(flag, help=text, **how)(command)
    return command


def said(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were really given, by the field that they fill."""
    return {o.field: options[o.parameter] for o in OPTIONS if options.get(o.parameter) not in (None, ())}

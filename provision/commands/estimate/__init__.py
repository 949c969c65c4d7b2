"""`rentune estimate`"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.asking.options.kinds import SIZE, WORDS, Once
from planner.asking.options.table import ALSO
from provision.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from catalogs.catalog import Catalog
    from planner.explain import Explanation
    from provision.report.tables import Table
    from remote.measured import StepMeasured

# Contract keys that can be said on the command line, with what they mean; a case with others goes into a file (--from).
CASE_OPTIONS: tuple[tuple[str, click.ParamType[Any] | type, str], ...] = (
    ("model", str, 'Size ("7b"), registry name, hub id, config.json, model folder or GGUF file.'),
    ("task", str, "causal_lm (default), classification, …: what is learned."),
    ("method", str, "full, lora (default), qlora, dora, … (no auto: that is for plans)."),
    ("rank", int, "Rank of the adapters (default 16)."),
    ("alpha", float, "Scale of the adapters; moves neither memory nor time."),
    ("dropout", float, "Dropout of the adapters (default 0)."),
    ("target_modules", WORDS, "all-linear (default), default, or q_proj,v_proj,…"),
    ("num_virtual_tokens", int, "Learned positions of prompt_tuning, p_tuning, prefix_tuning, …."),
    ("trainable_layers", int, "How many top blocks method freeze trains."),
    ("quant", str, "none (default), nf4, int8, …: how the frozen weights are held."),
    ("double_quant", bool, "Whether the scales of 4-bit weights are quantized again."),
    ("kbit_upcast", str, "none, norms or full: what a quantized base has cast to fp32."),
    ("param_dtype", str, "bfloat16 (default), float16 or float32: the weights that are not quantized."),
    ("autocast", str, "none, bfloat16 or float16: what products are computed in."),
    ("adapter_dtype", str, "float32 (default) or a 16-bit dtype: the adapter's weights."),
    ("optimizer", str, "adamw_torch_fused, paged_adamw_8bit, sgd, …"),
    ("micro_batch_size", int, "Sequences per GPU and forward pass."),
    ("gradient_accumulation_steps", int, "Forward passes per optimizer step."),
    ("seq_len", int, "Tokens of the longest sequence, after padding."),
    ("gradient_checkpointing", str, "off, non_reentrant or reentrant: activations computed again in backward."),
    ("attention", str, "sdpa (default), eager or flash_attention_2."),
    ("loss", str, "hf (default), liger, chunked, …: how logits become a loss."),
    ("engine", str, "auto (default), closed_form, or trace: a real step, traced; needs torch."),
    ("gpu", str, 'The card, by name ("T4", "RTX 4080"): its fit and speed are told.'),
    ("gpu_memory_gib", SIZE, "What the job may use of one GPU (16GB), whatever its card has."),
    ("num_gpus", int, "GPUs of the whole job."),
    ("sharding", str, "none, ddp, fsdp, zero3, …: how several GPUs share the job."),
    ("offload", str, "none, optimizer, params or stream: what waits in host memory."),
)
BESIDE = ("explain", "plot", "measure")  # what can be shown beside the answer to one case
UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("bytes", 1))  # one for a whole table: that of its sum


def _case_options(function: Any) -> Any:
    for key, kind, words in reversed(CASE_OPTIONS):
        flag = f"--{key.replace('_', '-')}"
        flags = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        function = click.option(flags, key, type=kind, cls=Once, also=ALSO.get(flag, ()), help=words)(function)
    return function


@click.command("estimate")
@_case_options
@click.option(
    "--from", "cases", cls=Once, type=click.Path(), help="File of cases, one JSON object a line; - reads standard input."
)
@click.option("--explain", is_flag=True, help="Say what the memory is for, and what would change it.")
@click.option("--plot", type=click.Path(), cls=Once, help="Draw the memory of a step into this file: .svg or .html.")
@click.option("--measure", is_flag=True, help="Run one real step on this machine's GPU and show predicted against measured.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as the estimate contract has it.")
def command(cases: str | None, as_json: bool, **said: Any) -> int:  # noqa: FBT001 - click hands it over by name
    """Memory and time of one training configuration.

    With --from: one JSON answer a line. Exit 0 when all were answered, 1 when a line is an error, 2 when it could not run.
    """
    from planner.estimate import answers
    from provision.envelope.show import tracing
    from provision.errors import BadInput
    from provision.home.places import read_places
    from provision.prepare.asking import shipped

    catalog, kept = shipped(), read_places().cache / "traces"
    beside = {name: said.pop(name) for name in BESIDE}
    asked = {key: value for key, value in said.items() if value is not None}
    if cases is not None:
        for key in asked:
            raise BadInput(f"--{key.replace('_', '-')} has no effect beside --from.", hint="say it in each line of the file")
        for name in filter(beside.get, BESIDE):
            raise BadInput(f"--{name} is for one case, and --from reads many.", hint="say the case by options")
        return _print_lines(answers(_lines(cases), catalog, _base(cases), cache=kept, tracing=tracing))
    _require_consistent(asked)
    if "model" not in asked:
        raise BadInput(
            "No model was named.", hint="--model 7b, or --from cases.jsonl; `rentune catalog models` lists what has a name"
        )
    return _answer_one(asked, catalog, kept, as_json=as_json, **beside)


def _answer_one(
    asked: dict[str, Any], catalog: Catalog, kept: Path, *, explain: bool, plot: str | None, measure: bool, as_json: bool
) -> int:
    from msgspec import to_builtins

    from planner.estimate import answer
    from provision.commands.estimate.beside import explanation, measurement, renderer, write_plot
    from provision.envelope.show import tracing
    from provision.errors import BadInput

    draw = None if plot is None else renderer(plot)
    made = answer(asked, catalog, Path.cwd(), cache=kept, tracing=tracing)
    if "error" in made:
        if not as_json:
            raise BadInput(made["error"]["message"], hint=made["error"].get("hint"))
        click.echo(json.dumps(made))
        return Exit.REFUSED  # as without --json, where the same error is raised
    why = explanation(asked, catalog, kept, tracing) if explain else None
    seen = measurement(asked) if measure else None
    if as_json:
        more = {name: to_builtins(value) for name, value in (("explanation", why), ("measured", seen)) if value is not None}
        click.echo(json.dumps(made | more))
    else:
        _draw(made, why, seen)
    if plot is not None and draw is not None:
        click.echo(write_plot(asked, catalog, plot, draw, tracing, required_bytes=made["vram"]["required_bytes"]), err=True)
    return Exit.OK


def _require_consistent(asked: dict[str, Any]) -> None:
    """Refuse what a plan refuses of two options that exclude each other. A line of --from keeps the contract's note."""
    from planner.asking.case import check_quant
    from planner.refusals import CaseError
    from provision.errors import BadInput

    try:
        check_quant(asked.get("method", ""), asked.get("quant"))
    except CaseError as error:
        raise BadInput(f"{error.message}.", hint=error.hint) from None


NO_CASES = (".yml", ".yaml", ".toml")  # suffixes of files that hold no line of JSON


def _base(cases: str) -> Path:
    return Path.cwd() if cases == "-" else Path(cases).resolve().parent


def _lines(cases: str) -> list[bytes]:
    from catalogs.user_file import MAX_CASES_BYTES, FileUnusable, expanded, read_bytes, read_stream, require_no_wide_text
    from provision.errors import BadInput

    name = "standard input" if cases == "-" else cases
    if Path(cases).suffix.lower() in NO_CASES:
        hint = f"`rentune plan {cases}` reads a job file, and tells of another tool's keys what they are called here"
        raise BadInput(f"{name} is no file of cases, which are JSON objects, one a line.", hint=hint)
    try:
        if cases != "-":
            return require_no_wide_text(read_bytes(expanded(cases), max_bytes=MAX_CASES_BYTES)).split(b"\n")
        if sys.stdin is None:  # as Python has it where the caller closed it
            raise FileUnusable("is closed")
        return require_no_wide_text(read_stream(sys.stdin.buffer, max_bytes=MAX_CASES_BYTES)).split(b"\n")
    except FileUnusable as error:
        raise BadInput(f"{name} {error}.", hint="--from takes a file with one JSON object a line") from None


def _print_lines(made: Iterable[dict[str, Any]]) -> int:
    failed = False
    for one in made:
        failed = failed or "error" in one
        click.echo(json.dumps(one))
    return 1 if failed else 0


def _draw(made: dict[str, Any], why: Explanation | None, seen: StepMeasured | None) -> None:
    from provision.envelope.show import console
    from provision.report.explanation import explanation_tables, limit_lines
    from provision.report.measured import measured_table
    from provision.report.terminal import draw

    out = console()
    out.print(_case_line(made["effective"]), markup=False, highlight=False)
    for table in (_peak_table(made["vram"]),) if why is None else explanation_tables(why, width=out.width):
        out.print(draw(table))
    if seen is not None:
        out.print(draw(measured_table(made, seen)))
    for line in (*_lines_below(made), *(() if why is None else limit_lines(why))):
        out.print(line, markup=False)


def _case_line(case: dict[str, Any]) -> str:
    """What is estimated, with every default filled in that moves most of it."""
    from planner.report.words import base, several

    rank = f" of rank {case['rank']}" if "rank" in case else ""
    held = case["param_dtype"] if case["quant"] == "none" else case["quant"]
    batch = f"{several(case['micro_batch_size'], 'sequence')} of {case['seq_len']:,} tokens"
    steps = case["gradient_accumulation_steps"]
    more = f" × {steps:,} a step" if steps > 1 else ""
    gpus = f", {case['num_gpus']:,} GPUs ({case['sharding']})" if case["num_gpus"] > 1 else ""
    checkpointing = case["gradient_checkpointing"].replace("_", "-")
    return (
        f"Case: {base(case['model'])}, {case['method']}{rank}, weights in {held}, micro-batch of {batch}{more}{gpus}, "
        f"gradient checkpointing {checkpointing}, {case['optimizer']}."
    )


def _peak_table(vram: dict[str, Any]) -> Table:
    from provision.report.tables import Table

    unit, unit_bytes = next(row for row in UNITS if vram["allocated_peak_bytes"] >= row[1])
    figures = {name: f"{vram[name] / unit_bytes:,.2f}" for name in vram if name.endswith("_peak_bytes")}
    allocated = figures.pop("allocated_peak_bytes")
    peaks = [f"{name.removesuffix('_peak_bytes')} {text} {unit}" for name, text in figures.items()]
    return Table(
        title=f"GPU memory at the peak: {vram['peak_instant'].replace('_', ' ')}",
        columns=("component", unit),
        rows=tuple((name.replace("_", " "), f"{size / unit_bytes:,.2f}") for name, size in vram["components"].items()),
        total=("allocated", allocated),
        note=(
            f"Required of the card: {vram['required_bytes'] / unit_bytes:,.2f} {unit}, for what is allocated, a margin, and "
            f"what lies outside of torch.\nPeaks: {', '.join(peaks)}; reserved and process hold spare cache, too."
        ),
    )


def _lines_below(made: dict[str, Any]) -> Iterator[str]:
    """What the table does not show: fit, speed, RAM, disk, sizes, notes. A case without a GPU has no verdict and no speed."""
    from provision.words import bytes_words

    if "fits" in made:
        verdict = made["fits"]
        margin = f"{bytes_words(abs(verdict['margin_bytes']))} {'to spare' if verdict['margin_bytes'] >= 0 else 'too much'}"
        why = f": {verdict['reason']}" if "reason" in verdict else ""
        yield f"Fit: {verdict['verdict'].replace('_', ' ')}, {margin}{why}."
    if "time" in made:
        time = made["time"]
        speed = "{p50:,.0f} tokens/s ({p10:,.0f} to {p90:,.0f})".format(**time["tokens_per_s"])
        yield f"Speed: {speed}, {time['step_s']['p50']:.2f} s a step, bound by {time['bound']}."
    sizes = [f"{name.upper() if name == 'ram' else name} {bytes_words(made[name]['peak_bytes'])}" for name in ("ram", "disk")]
    yield f"Host: {', '.join(sizes)}. Trainable: {made['trainable_params']:,} of {made['total_params']:,} parameters."
    for warning in made.get("warnings", ()):
        yield f"Note: {warning}"

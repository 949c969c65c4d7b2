"""The model card: what was trained on what, and what came of it."""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from remote.adapters import is_adapter, way_of
from remote.checkpoints.checkpoint import Progress
from remote.contract import (
    DRAWN_CLASSES,
    Balance,
    Confusion,
    Evaluation,
    JobSpec,
    Loop,
    RowsRead,
    Sample,
    figures_of,
    table_of,
    warm_up_of,
)
from remote.data.labelled import Class
from remote.result.licence import licence_of
from remote.result.saved import base_name

BASE_WORDS: Final[Mapping[str, str]] = {
    "hub": "its id on the hub, or a folder that holds it",
    "gguf": "the GGUF file, wherever you have it",
    "folder": "the folder, wherever you have it",
    "config": "the folder of the same random weights",
}


def model_card(
    spec: JobSpec,
    progress: Progress,
    samples: tuple[Sample, ...],
    *,
    read: RowsRead,
    held_out: RowsRead | None = None,
    classes: Sequence[Class] = (),
    trainable_params: int,
    base_sha256: Mapping[str, str] = MappingProxyType({}),
    versions: Mapping[str, str],
) -> str:
    """README.md of the result, with the front matter that model hubs read; trained on were the rows of `read`, starting from
    weights of these hashes.

    Nothing in it is a path: it is made to be shown to others.
    """
    return "\n".join(
        [
            *_front_matter(spec),
            f"# {_cell(shown_base(spec))}, tuned on {_cell(data_name(spec))}",
            "",
            *_table(_origin(spec, read)),
            "## How it was trained",
            "",
            *_table(_method(spec, progress, trainable_params)),
            *_classes(classes, spec.data.balance),
            *_judged(progress, held_out, classes),
            *(line for number, sample in enumerate(samples, start=1) for line in _sample(number, sample)),
            *_use(spec),
            *_cost(spec, progress),
            *_weights(base_sha256),
            "## Made with",
            "",
            ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
            "",
        ]
    )


def shown_base(spec: JobSpec) -> str:
    """The base's id on a hub, else the name of its file or folder."""
    name = base_name(spec)
    return name if spec.model.kind == "hub" else Path(name).name


def data_name(spec: JobSpec) -> str:
    """The data file as its owner calls it."""
    return spec.data.name or Path(spec.data.train).name


def _front_matter(spec: JobSpec) -> list[str]:
    tags = ["rentune", spec.strategy.method]
    library = "peft" if way_of(spec.strategy).adapter_folders else "transformers"
    return [
        "---",
        f"base_model: {json.dumps(shown_base(spec))}",
        f"library_name: {library}",
        f"pipeline_tag: {'text-classification' if spec.task == 'classification' else 'text-generation'}",
        f"tags: {json.dumps(tags)}",
        "---",
        "",
    ]


def _table(rows: Mapping[str, str]) -> list[str]:
    return ["| | |", "| --- | --- |", *(f"| {name} | {_cell(value)} |" for name, value in rows.items()), ""]


def _cell(text: str) -> str:
    """On one line of a table: a file may have any name, and a licence is what its owner wrote."""
    return " ".join(text.split()).replace("|", "\\|")


def _origin(spec: JobSpec, read: RowsRead) -> dict[str, str]:
    known = licence_of(spec.model)
    where = f"the page of {spec.model.location}" if spec.model.kind == "hub" else "where the base came from"
    revision = {"revision of the base": spec.model.revision} if spec.model.revision is not None else {}
    return {
        "base model": shown_base(spec),
        **revision,
        "licence of the base": f"{known}, say its own files" if known else f"not known: check {where} before you publish",
        "data": f"{data_name(spec)}, {read.used:,} rows{_long_words(read, spec.strategy.seq_len)}",
    }


def _long_words(read: RowsRead, seq_len: int) -> str:
    """What became of those that were longer than a sequence; nothing where all were learned from as they are."""
    lost = f"; {read.left_out:,} more left out, {read.why_left_out(seq_len)}" if read.left_out else ""
    fates = ((read.cut, f"cut at {seq_len} tokens"), (read.split, f"split into pieces of at most {seq_len} tokens"))
    done = [f"{number:,} {words}" for number, words in fates if number]
    return f", of these {' and '.join(done)}{lost}" if done else lost


def _method(spec: JobSpec, progress: Progress, trainable_params: int) -> dict[str, str]:
    strategy, loop = spec.strategy, spec.loop
    micro, accumulated = strategy.micro_batch_size, strategy.gradient_accumulation_steps
    alpha = "" if strategy.alpha is None else f", alpha {strategy.alpha:g}"
    rows = {
        "method": strategy.method if strategy.rank is None else f"{strategy.method}, rank {strategy.rank}{alpha}",
        "base weights": strategy.quant if strategy.quant != "none" else strategy.param_dtype,
        "trainable parameters": f"{trainable_params:,}",
        "targets": strategy.target_modules if isinstance(strategy.target_modules, str) else ", ".join(strategy.target_modules),
        "dropout": f"{strategy.dropout:g}",
        "sequences per step": f"{micro * accumulated} ({micro} × {accumulated})",
        "longest sequence": f"{strategy.seq_len} tokens",
        "steps": f"{progress.step}, at most {loop.epochs:g} epochs",
        "optimizer": f"{strategy.optimizer}, weight decay {loop.weight_decay:g}, gradients clipped at {loop.max_grad_norm:g}",
        "learning rate": f"{loop.learning_rate:g}, {_schedule_words(loop)}",
        "seed": f"{loop.seed}",
    }
    if loop.init_adapter is not None:
        rows["begun with"] = 'an earlier adapter\'s weights, which "before" means below'
    if way_of(strategy).trains_base:
        del rows["targets"], rows["dropout"]
    return rows


def _judged(progress: Progress, held_out: RowsRead | None, classes: Sequence[Class]) -> list[str]:
    before, after = progress.evaluation_at(0), progress.evaluation_at(progress.best_step)
    if before is None or after is None:
        return ["Not judged on held-out rows.", ""]
    what = "cross-entropy" if after.metrics else "mean loss per learned token"
    return [
        "## Held-out loss",
        "",
        f"{_loss(before)} before, **{_loss(after)}** after {after.step} steps.",
        "",
        f"Mean over {len(after.row_losses)} rows, {_apart_words(held_out)}, of each row's {what}.",
        "",
        *_metrics(before, after),
        *_told_apart(after.confusion, [_cell(each.name) for each in classes]),
    ]


def _apart_words(held_out: RowsRead | None) -> str:
    twins = 0 if held_out is None else held_out.twins
    if not twins:
        return "not trained on"
    return f"held out, of which {twins:,} {'says' if twins == 1 else 'say'} word for word what was trained on"


def _told_apart(confusion: Confusion, names: Sequence[str]) -> list[str]:
    """Of each class how well it was told from the others; of a few also which was taken for which."""
    if not confusion:
        return []
    figures = (
        f"| {name} | {each.rows:,} | {_share(each.precision)} | {_share(each.recall)} | {_share(each.f1)} |"
        for name, each in zip(names, figures_of(confusion, len(names)), strict=True)
    )
    lines = ["| class | rows held out | precision | recall | F1 |", "| --- | --- | --- | --- | --- |", *figures, ""]
    if len(names) > DRAWN_CLASSES:
        return lines
    counted = (
        f"| {name} | {' | '.join(f'{rows:,}' for rows in row)} |"
        for name, row in zip(names, table_of(confusion, len(names)), strict=True)
    )
    return [*lines, f"| is, taken for: | {' | '.join(names)} |", "| --- |" + " --- |" * len(names), *counted, ""]


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.3f}"


METRICS: Final[Mapping[str, str]] = {"accuracy": "accuracy", "macro_f1": "F1, mean of the classes", "auc": "AUC"}


def _metrics(before: Evaluation, after: Evaluation) -> list[str]:
    rows = [
        f"| {words} | {before.metrics[name]:.3f} | {after.metrics[name]:.3f} |"
        for name, words in METRICS.items()
        if name in before.metrics and name in after.metrics
    ]
    return ["| on held-out rows | before | after |", "| --- | --- | --- |", *rows, ""] if rows else []


def _classes(classes: Sequence[Class], balance: Balance) -> list[str]:
    if not classes:
        return []
    told = {
        "none": "",
        "class_weights": "Rarer classes weigh more in the loss, so that all weigh alike.",
        "weighted_sampling": "Rows are drawn so that every class is as likely as any other.",
        "smote": "Rows of rarer classes were drawn between the embeddings of neighbours (SMOTE), up to the commonest.",
        "oversampling": "Rows of rarer classes are shown several times in each epoch, as often as those of the commonest.",
    }[balance]
    rows = [f"| {_cell(each.name)} | {each.rows:,} |" for each in classes]
    return ["## Classes", "", "| class | rows to learn from |", "| --- | --- |", *rows, "", *([told, ""] if told else [])]


def _loss(evaluation: Evaluation) -> str:
    return f"{evaluation.mean_loss:.4f}"


def _sample(number: int, sample: Sample) -> list[str]:
    said = {"prompt": sample.prompt, "reference": sample.reference, "before": sample.before, "after": sample.after}
    title = [f"## Sample {number}", ""]
    return [*title, *(f"- {name}: {json.dumps(text, ensure_ascii=False)}" for name, text in said.items()), ""]


def _use(spec: JobSpec) -> list[str]:
    base = f" --base {shlex.quote(shown_base(spec))}" if is_adapter(spec.strategy) else ""
    where = [f"`--base` names the base: {BASE_WORDS[spec.model.kind]}.", ""] if base else []
    return ["## Try it", "", "```", f'python try.py "a question"{base}', "```", "", *where]


def _weights(base_sha256: Mapping[str, str]) -> list[str]:
    """As `sha256sum -c` reads it."""
    if not base_sha256:
        return []
    lines = [f"{sha256}  {_cell(name)}" for name, sha256 in sorted(base_sha256.items())]
    return ["## SHA-256 of the base's weights", "", "```", *lines, "```", ""]


def _cost(spec: JobSpec, progress: Progress) -> list[str]:
    metered = f"{statistics.median(progress.step_s):.3g} s" if progress.step_s else "not metered"
    planned = "" if spec.planned_step_s is None else f", planned {spec.planned_step_s:.3g} s"
    return [
        "## What it took",
        "",
        f"{progress.step} steps of {metered} each{planned}. Dollars, planned beside metered, stand in [cost.md](cost.md).",
        "",
    ]


def _schedule_words(loop: Loop) -> str:
    schedule = f"cosine in {loop.cycles} cycles" if loop.schedule == "cosine_with_restarts" else loop.schedule
    warm_up = warm_up_of(loop)
    return f"{schedule}, warmed up over {_WARMED_UP[warm_up.unit].format(warm_up.amount)}"


_WARMED_UP: Final = {"steps": "{:,.0f} steps", "epochs": "{:g} epochs", "share": "{:.0%} of the steps"}

"""The model card: what was trained on what, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from remote.adapters import is_adapter
from remote.checkpoint import Progress
from remote.contract import Evaluation, JobSpec, Sample
from remote.result.save import base_name


def model_card(
    spec: JobSpec, progress: Progress, samples: tuple[Sample, ...], trainable_params: int, versions: Mapping[str, str]
) -> str:
    """README.md of the result, with the front matter that model hubs read."""
    return "\n".join(
        [
            *_front_matter(spec),
            f"# {base_name(spec)}, tuned on {Path(spec.data.train).name}",
            "",
            *_method(spec, trainable_params),
            *_judged(progress),
            *(line for sample in samples for line in _sample(sample)),
            *_use(spec),
            "## Made with",
            "",
            ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
            "",
        ]
    )


def _front_matter(spec: JobSpec) -> list[str]:
    tags = ["rentune", spec.strategy.method]
    library = "peft" if is_adapter(spec.strategy) else "transformers"
    return [
        "---",
        f"base_model: {json.dumps(base_name(spec))}",
        f"library_name: {library}",
        "pipeline_tag: text-generation",
        f"tags: {json.dumps(tags)}",
        "---",
        "",
    ]


def _method(spec: JobSpec, trainable_params: int) -> list[str]:
    strategy, loop = spec.strategy, spec.loop
    rows = {
        "method": strategy.method if strategy.rank is None else f"{strategy.method}, rank {strategy.rank}",
        "base weights": strategy.quant if strategy.quant != "none" else strategy.param_dtype,
        "trainable parameters": f"{trainable_params:,}",
        "targets": strategy.target_modules if isinstance(strategy.target_modules, str) else ", ".join(strategy.target_modules),
        "sequences per step": f"{strategy.micro_batch_size * strategy.gradient_accumulation_steps}",
        "longest sequence": f"{strategy.seq_len} tokens",
        "optimizer": f"{strategy.optimizer}, {loop.learning_rate:g} ({loop.schedule})",
        "epochs": f"{loop.epochs:g}",
        "seed": f"{loop.seed}",
    }
    if not is_adapter(strategy):
        del rows["targets"]
    return ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items()), ""]


def _judged(progress: Progress) -> list[str]:
    before, after = progress.evaluation_at(0), progress.evaluation_at(progress.best_step)
    if before is None or after is None:
        return ["Not judged on held-out rows.", ""]
    return [
        "## Held-out loss",
        "",
        f"{_loss(before)} before, **{_loss(after)}** after {after.step} steps.",
        "",
        f"Mean over {len(after.row_losses)} rows, not trained on, of each row's mean loss per learned token.",
        "",
    ]


def _loss(evaluation: Evaluation) -> str:
    return f"{evaluation.mean_loss:.4f}"


def _sample(sample: Sample) -> list[str]:
    said = {"prompt": sample.prompt, "reference": sample.reference, "before": sample.before, "after": sample.after}
    return ["## Sample", "", *(f"- {name}: {json.dumps(text, ensure_ascii=False)}" for name, text in said.items()), ""]


def _use(spec: JobSpec) -> list[str]:
    base = f" --base {base_name(spec)}" if is_adapter(spec.strategy) else ""
    return ["## Try it", "", "```", f'python try.py "a question"{base}', "```", ""]

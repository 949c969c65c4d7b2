"""LoRA on a real encoder beside a linear probe on the same encoder, frozen: which area of the standard library is a text of?

    python -m benchmarks.training.docstring_areas [MODEL] [--write] [--folds 3]

makes the rows out of the docstrings that ship with Python and parts them into folds. For each fold it fits the probe and trains
through the trainer (a job like any other) on the rows of the others; so both have judged every row once, and none that they had
learned from. Each fold takes some ten minutes of a core.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.machine import RESULTS, describe_machine
from examples.demo.fetch_base import ENCODER
from provision.home.places import read_places
from remote.__main__ import carry_out
from remote.contract import JOB_FILE, OUTCOME_FILE, DataSource, JobSpec, Loop, ModelSource, Outcome, Strategy, decode, encode
from remote.result.metrics import macro_f1

# The areas of docs.python.org/3.11/library, read 2026-11: chapters that belong together, and of each what has many docstrings.
AREAS: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("string", "re", "difflib", "textwrap", "shlex", "gettext", "locale", "pprint", "reprlib", "cmd", "tokenize"),
    "numbers": ("statistics", "fractions", "numbers", "random", "decimal", "_pydecimal", "colorsys", "datetime", "calendar"),
    "files": ("pathlib", "shutil", "tempfile", "zipfile", "tarfile", "gzip", "bz2", "lzma", "glob", "fileinput", "filecmp"),
    "internet": ("email", "http", "urllib", "smtplib", "ftplib", "imaplib", "poplib", "socketserver", "xmlrpc", "mailbox"),
    "concurrency": ("asyncio", "threading", "multiprocessing", "concurrent", "queue", "sched", "selectors", "subprocess"),
    "language": ("ast", "inspect", "importlib", "dis", "pickle", "copy", "types", "typing", "abc", "dataclasses", "enum"),
    "testing": ("unittest", "doctest", "pdb", "bdb", "trace", "traceback", "cProfile", "profile", "timeit", "logging"),
}
TITLE: Final = "# LoRA on an encoder beside a linear probe on the same encoder, frozen"
RESULT: Final = RESULTS / "docstring_areas.md"
LEAST_WORDS, MOST_CHARACTERS = 4, 400  # assumed: a shorter one says nothing, of a longer one the beginning says what it is
FOLDS: Final = 3  # assumed: two thirds of the rows are enough to learn from, and all of them tell a difference of 0.02
PARTED_BY: Final = 0  # the seed of the parting
RESAMPLES: Final = 5_000  # of the judged rows, for the error bar
CHANCE: Final = (0.025, 0.975)  # of the interval
PENALTIES: Final = (1e-5, 1e-4, 1e-3, 1e-2)  # of the probe; the best on a part of the rows to learn from is taken
SEQ_LEN: Final = 48  # nine rows in ten are shorter
STRATEGY: Final = Strategy(
    method="lora",
    rank=16,
    alpha=32.0,
    dropout=0.05,
    micro_batch_size=16,
    seq_len=SEQ_LEN,
    padded=True,
    param_dtype="float32",
    autocast="none",
    optimizer="adamw_torch",
    gradient_checkpointing="off",
)
LOOP: Final = Loop(
    epochs=6, learning_rate=2e-3, schedule="linear", warmup_ratio=0.06, evaluations=2, num_samples=0, row_order="by_length"
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Row(NamedTuple):
    text: str
    label: str


class Side(NamedTuple):
    """What one way to learn said of the held-out rows."""

    said: Ints
    seconds: float


def rows() -> tuple[Row, ...]:
    """One for each docstring of a module, class or function of the areas, the first paragraph of it; none twice."""
    found: dict[str, Row] = {}
    library = Path(sysconfig.get_path("stdlib"))
    for area, names in AREAS.items():
        for name in names:
            for file in sorted((library / name).rglob("*.py")) or [library / f"{name}.py"]:
                if "test" in file.relative_to(library).parts[1:] or not file.is_file():
                    continue
                for text in _docstrings(file.read_text(encoding="utf-8")):
                    found.setdefault(text, Row(text, area))
    return tuple(found.values())


def _docstrings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())[:MOST_CHARACTERS]
        if len(text.split()) >= LEAST_WORDS:
            yield text


def parted(found: Sequence[Row], folds: int) -> Iterator[tuple[list[Row], list[Row]]]:
    """(to learn from, held out) of each fold; every row is held out once."""
    shuffled = list(found)
    random.Random(PARTED_BY).shuffle(shuffled)
    for fold in range(folds):
        yield [row for place, row in enumerate(shuffled) if place % folds != fold], shuffled[fold::folds]


# ── the two sides ──────────────────────────────────────────────────────────────────────────────────────────────────


def tuned(model: Path, learned: Sequence[Row], judged: Sequence[Row], *, seed: int, loop: Loop = LOOP) -> tuple[Side, Outcome]:
    """By LoRA, through the trainer: its result read from disk, as anybody reads it."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, part in (("train.jsonl", learned), ("held_out.jsonl", judged)):
            (folder / name).write_text("".join(json.dumps(row._asdict()) + "\n" for row in part))
        spec = JobSpec(
            run_id=f"docstrings-{seed}",
            model=ModelSource(kind="folder", location=str(model), name=model.name),
            data=DataSource(train="train.jsonl", held_out="held_out.jsonl", balance="class_weights"),
            strategy=STRATEGY,
            loop=Loop(**{name: getattr(loop, name) for name in loop.__struct_fields__} | {"seed": seed}),
            task="classification",
            device="cpu",
        )
        (folder / JOB_FILE).write_bytes(encode(spec))
        if carry_out(folder / JOB_FILE) != 0:
            raise SystemExit((folder / OUTCOME_FILE).read_text())
        seconds = time.monotonic() - began_s
        outcome = decode((folder / OUTCOME_FILE).read_bytes(), Outcome)
        return Side(_said_by(model, folder / "output", [row.text for row in judged]), seconds), outcome


def _said_by(model: Path, result: Path, texts: Sequence[str]) -> Ints:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(result)
    base = AutoModelForSequenceClassification.from_pretrained(model, num_labels=len(AREAS))
    whole = PeftModel.from_pretrained(base, str(result)).eval()
    said: list[int] = []
    for at in range(0, len(texts), 32):
        inputs = tokenizer(list(texts[at : at + 32]), padding=True, truncation=True, max_length=SEQ_LEN, return_tensors="pt")
        with torch.inference_mode():
            said += whole(**inputs).logits.argmax(dim=-1).tolist()
    return np.asarray(said, dtype=np.int64)


def probed(model: Path, learned: Sequence[Row], judged: Sequence[Row]) -> Side:
    """By logistic regression on what the frozen encoder makes of a text: the mean over tokens, as it is meant to be read."""
    began_s = time.monotonic()
    train, test = _embedded(model, [row.text for row in learned]), _embedded(model, [row.text for row in judged])
    labels = _numbers(learned)
    cut = len(labels) * 4 // 5
    scores = {
        penalty: macro_f1(_fitted(train[:cut], labels[:cut], train[cut:], penalty), labels[cut:]) for penalty in PENALTIES
    }
    best = max(scores, key=lambda penalty: scores[penalty])
    return Side(_fitted(train, labels, test, best), time.monotonic() - began_s)


def _embedded(model: Path, texts: Sequence[str]) -> Any:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, encoder = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    parts = []
    by_length = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    ordered = [texts[place] for place in by_length]
    for at in range(0, len(texts), 32):
        inputs = tokenizer(ordered[at : at + 32], padding=True, truncation=True, max_length=SEQ_LEN, return_tensors="pt")
        with torch.inference_mode():
            states = encoder(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        parts.append(torch.nn.functional.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=-1))
    found = torch.empty(len(texts), parts[0].shape[1])
    found[by_length] = torch.cat(parts)
    return found


def _fitted(train: Any, labels: Ints, test: Any, penalty: float) -> Ints:
    """Balanced multinomial logistic regression, to convergence."""
    import torch

    weights = torch.zeros(len(AREAS), train.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    ones = torch.ones(len(train), 1, dtype=torch.float64)
    features, target = torch.cat((train.double(), ones), dim=1), torch.from_numpy(labels)
    balance = len(labels) / (len(AREAS) * torch.bincount(target, minlength=len(AREAS)).double())
    optimizer = torch.optim.LBFGS([weights], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimizer.zero_grad()
        found = torch.nn.functional.cross_entropy(features @ weights.T, target, weight=balance)
        found = found + penalty * weights[:, :-1].square().sum()
        found.backward()
        return found

    optimizer.step(loss)
    with torch.no_grad():
        logits = test.double() @ weights[:, :-1].T + weights[:, -1]
    return np.asarray(logits.argmax(dim=-1).numpy(), dtype=np.int64)


def _numbers(found: Sequence[Row]) -> Ints:
    names = sorted(AREAS)
    return np.asarray([names.index(row.label) for row in found], dtype=np.int64)


# ── what it says ───────────────────────────────────────────────────────────────────────────────────────────────────


def interval(one: Ints, other: Ints, true: Ints, *, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float, float]:
    """(mean, low, high) of the difference in macro F1, over resamples of the same rows for both."""
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = chance.integers(0, len(true), len(true))
        found.append(macro_f1(one[drawn], true[drawn]) - macro_f1(other[drawn], true[drawn]))
    low, high = np.quantile(found, CHANCE)
    return float(np.mean(found)), float(low), float(high)


class Compared(NamedTuple):
    """Both sides on the same held-out rows."""

    learned: int  # rows
    true: Ints
    probe: Side
    lora: Side
    told_by_trainer: float | None  # the F1 in its outcome; None = of several runs
    trained_parameters: int


def compared(model: Path, learned: Sequence[Row], judged: Sequence[Row], *, seed: int) -> Compared:
    """One fold: probed, tuned, and both asked of the same held-out rows."""
    probe = probed(model, learned, judged)
    lora, outcome = tuned(model, learned, judged, seed=seed)
    if outcome.after is None or outcome.trainable_params is None:
        raise SystemExit(f"The trainer told no scores: {outcome.message}")
    return Compared(len(learned), _numbers(judged), probe, lora, outcome.after.metrics["macro_f1"], outcome.trainable_params)


def together(runs: Sequence[Compared]) -> Compared:
    """What was said of all folds, as if of one."""

    def joined(sides: Sequence[Side]) -> Side:
        return Side(np.concatenate([side.said for side in sides]), sum(side.seconds for side in sides))

    return Compared(
        learned=min(run.learned for run in runs),
        true=np.concatenate([run.true for run in runs]),
        probe=joined([run.probe for run in runs]),
        lora=joined([run.lora for run in runs]),
        told_by_trainer=None,
        trained_parameters=runs[0].trained_parameters,
    )


def report(runs: Sequence[Compared], found: Sequence[Row], model: Path) -> str:
    """The result file."""
    areas = ", ".join(f"{area} {sum(row.label == area for row in found)}" for area in AREAS)
    told = (
        f"Which area of the standard library a docstring is of ({len(found):,} rows: {areas}); base {model.name}, LoRA of rank "
        f"{STRATEGY.rank} and its head ({runs[0].trained_parameters:,} parameters), {LOOP.epochs:g} epochs, at most {SEQ_LEN} "
        f"tokens a row for both sides. Each fold is judged by what has learned from the others, every row once; "
        f"the error bar is what lies within 95 of 100 of {RESAMPLES:,} resamples of the judged rows."
    )
    titles = (
        *("fold", "rows", "held out", "F1, probe", "LoRA", "as its trainer told", "difference"),
        *("accuracy, probe", "LoRA", "seconds, probe", "LoRA"),
    )
    lines = [_cells(str(fold), run) for fold, run in enumerate(runs)]
    table = [f"| {' | '.join(cells)} |" for cells in (titles, ("---",) * len(titles), *lines, _cells("all", together(runs)))]
    return "\n".join([TITLE, "", describe_machine(), "", told, "", *table, ""])


def _cells(name: str, run: Compared) -> tuple[str, ...]:
    mean, low, high = interval(run.lora.said, run.probe.said, run.true)
    sides = (run.probe, run.lora)
    return (
        *(name, f"{run.learned:,}", f"{len(run.true):,}"),
        *(f"{macro_f1(side.said, run.true):.3f}" for side in sides),
        "" if run.told_by_trainer is None else f"{run.told_by_trainer:.3f}",
        f"{mean:+.3f} ({low:+.3f} to {high:+.3f})",
        *(f"{(side.said == run.true).mean():.3f}" for side in sides),
        *(f"{side.seconds:.0f}" for side in sides),
    )


def main() -> int:
    """Print the figures; exit 1 where LoRA is not better than the probe by more than the error bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = read_places().cache / "bases" / ENCODER.name
    parser.add_argument(
        "model", nargs="?", type=Path, default=here, help=f"folder of an encoder ({ENCODER.name}: make encoder)"
    )
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--folds", type=int, default=FOLDS, help=f"into which the rows are parted (default {FOLDS})")
    asked = parser.parse_args()
    if not asked.model.is_dir():
        raise SystemExit(f"{asked.model} is not there; fetch it with: make encoder")
    found = rows()
    runs = []
    for fold, (learned, judged) in enumerate(parted(found, asked.folds)):
        runs.append(compared(asked.model, learned, judged, seed=fold))
        print(" | ".join(_cells(str(fold), runs[-1])), flush=True)
    text = report(runs, found, asked.model)
    print(text)
    if asked.write:
        RESULT.write_text(text)
    whole = together(runs)
    _, low, _ = interval(whole.lora.said, whole.probe.said, whole.true)
    return 0 if low > 0 else 1


if __name__ == "__main__":
    sys.exit(main())

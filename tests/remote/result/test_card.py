"""The model card: made to be shown to others, so it holds what they need and no path of the box."""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec
import pytest

from remote.checkpoints.checkpoint import Progress
from remote.contract import DataSource, Evaluation, JobSpec, ModelSource, RowsRead, Sample
from remote.data.labelled import Class
from remote.result.card import model_card
from remote.result.licence import licence_of
from tests.remote.conftest import LOOP, STRATEGY

BEFORE, AFTER = (Evaluation(step=step, mean_loss=loss, row_losses=(loss, loss)) for step, loss in ((0, 4.0), (12, 2.5)))
PROGRESS = Progress(step=12, step_s=(0.5, 0.7, 0.6), evaluations=(BEFORE, AFTER), best_step=12)
SAMPLES = tuple(Sample(prompt=f"{word}?", reference="r", before="b", after="a") for word in ("What", "Why"))


def job(folder: Path, *, kind: str = "gguf", location: str = "inputs/base/tiny.gguf", name: str | None = None) -> JobSpec:
    """As the trainer has it: every path is one on the box."""
    at = location if kind == "hub" else str(folder / location)
    return JobSpec(
        run_id="r",
        model=ModelSource(kind=kind, location=at, name=name),  # type: ignore[arg-type]
        data=DataSource(train=str(folder / "inputs/train.jsonl"), name="docstrings.jsonl"),
        strategy=msgspec.structs.replace(STRATEGY, alpha=8.0),
        loop=LOOP,
        planned_step_s=0.55,
    )


READ = RowsRead(used=3_210, cut=0, left_out=0, left_out_lines=())


def card_of(spec: JobSpec, read: RowsRead = READ) -> str:
    return model_card(spec, PROGRESS, SAMPLES, read=read, trainable_params=98_304, versions={"torch": "2"})


def write_gguf(file: Path, **metadata: str) -> None:
    """A head with a list, a number and these strings, and no weights."""
    file.parent.mkdir(parents=True, exist_ok=True)

    def text(words: str) -> bytes:
        return struct.pack("<Q", len(words.encode())) + words.encode()

    entries = [text("general.languages") + struct.pack("<IIQ", 9, 8, 2) + text("en") + text("de")]
    entries += [text("general.quantization_version") + struct.pack("<II", 4, 2)]
    entries += [text(f"general.{key}") + struct.pack("<I", 8) + text(value) for key, value in metadata.items()]
    entries += [text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 1) + text("a")]
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + b"".join(entries))


def test_a_name_stays_in_its_cell(tmp_path: Path) -> None:
    """A file may be called anything."""
    write_gguf(tmp_path / "inputs/base/tiny.gguf")
    spec = job(tmp_path)
    card = card_of(msgspec.structs.replace(spec, data=msgspec.structs.replace(spec.data, name="a|b\n# c.jsonl")))
    assert "| data | a\\|b # c.jsonl, 3,210 rows |" in card.splitlines()
    assert "# c.jsonl" not in card.splitlines()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"warmup_ratio": 0.06}, "constant, warmed up over 6% of the steps"),
        ({"warmup_steps": 1_200}, "constant, warmed up over 1,200 steps"),
        ({"warmup_epochs": 0.5}, "constant, warmed up over 0.5 epochs"),
    ],
)
def test_the_warm_up_is_told_as_it_was_said(tmp_path: Path, said: dict[str, float], words: str) -> None:
    write_gguf(tmp_path / "inputs/base/tiny.gguf")
    spec = msgspec.structs.replace(job(tmp_path), loop=msgspec.structs.replace(LOOP, schedule="constant", **said))
    assert words in card_of(spec)


def test_it_holds_what_somebody_needs_who_was_not_there(tmp_path: Path) -> None:
    """Base, licence, data, how it was trained, how well it does, what it says, how to use it, where the bill is."""
    write_gguf(tmp_path / "inputs/base/tiny.gguf", license="apache-2.0")
    card = card_of(job(tmp_path, name="/home/me/models/tiny.gguf"))
    for words in (
        'base_model: "tiny.gguf"', "# tiny.gguf, tuned on docstrings.jsonl", "| licence of the base | apache-2.0",
        "| data | docstrings.jsonl, 3,210 rows |", "lora, rank 4, alpha 8", "98,304", "0.01, cosine, warmed up over 3% of",
        "4 (4 × 1)", "12, at most 10 epochs", "4.0000 before, **2.5000** after 12 steps", "## Sample 2", '- after: "a"',
        'python try.py "a question" --base tiny.gguf', "12 steps of 0.6 s each, planned 0.55 s", "(cost.md)",
    ):  # fmt: skip
        assert words in card, words


@pytest.mark.parametrize("name", [None, "/home/me/models/tiny.gguf"])
def test_no_path_is_in_it(tmp_path: Path, name: str | None) -> None:
    """Neither of the box nor of the machine at home."""
    write_gguf(tmp_path / "inputs/base/tiny.gguf")
    card = card_of(job(tmp_path, name=name))
    assert str(tmp_path) not in card
    assert "/home/me" not in card


def test_a_base_from_the_hub_goes_by_its_id(tmp_path: Path) -> None:
    """And its page is where the licence stands."""
    card = card_of(job(tmp_path, kind="hub", location="owner/name"))
    assert 'base_model: "owner/name"' in card
    assert "not known: check the page of owner/name before you publish" in card


def test_a_licence_is_read_from_the_head_of_a_gguf_file(tmp_path: Path) -> None:
    """Or from the card of a model folder; what does not tell one has none that is known."""
    write_gguf(tmp_path / "told.gguf", name="Tiny", license="llama3.1")
    write_gguf(tmp_path / "silent.gguf", name="Tiny")
    (tmp_path / "README.md").write_text('---\nlanguage: en\nlicense: "mit"\n---\n# license: gpl\n')
    assert licence_of(ModelSource(kind="gguf", location=str(tmp_path / "told.gguf"))) == "llama3.1"
    assert licence_of(ModelSource(kind="gguf", location=str(tmp_path / "silent.gguf"))) is None
    assert licence_of(ModelSource(kind="folder", location=str(tmp_path))) == "mit"
    assert licence_of(ModelSource(kind="folder", location=str(tmp_path / "elsewhere"))) is None
    assert licence_of(ModelSource(kind="hub", location="owner/name")) is None


@pytest.mark.parametrize("kept", [3, 4, 10, 24, 40, 60])
def test_a_head_that_is_cut_off_tells_no_licence(tmp_path: Path, kept: int) -> None:
    write_gguf(tmp_path / "whole.gguf", license="mit")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes((tmp_path / "whole.gguf").read_bytes()[:kept])
    assert licence_of(ModelSource(kind="gguf", location=str(cut))) is None


@pytest.mark.parametrize(
    ("twins", "words"),
    [
        (0, "Mean over 2 rows, not trained on, of each row's"),
        (1, "Mean over 2 rows, held out, of which 1 says word for word what was trained on, of each row's"),
    ],
)
def test_held_out_rows_that_were_learned_are_counted(tmp_path: Path, twins: int, words: str) -> None:
    """The card said of them that they were not trained on."""
    held_out = RowsRead(used=2, cut=0, left_out=0, left_out_lines=(), twins=twins)
    card = model_card(
        job(tmp_path, kind="hub", location="o/base"),
        PROGRESS,
        SAMPLES,
        read=READ,
        held_out=held_out,
        trainable_params=98_304,
        versions={"torch": "2"},
    )
    assert words in card
    assert ("not trained on" in card) == (twins == 0)


@pytest.mark.parametrize("num_classes", [2, 20])
def test_a_classification_tells_each_class_and_of_a_few_which_was_taken_for_which(tmp_path: Path, num_classes: int) -> None:
    classes = [Class(name=f"class|{number}", rows=9) for number in range(num_classes)]
    after = msgspec.structs.replace(AFTER, metrics={"accuracy": 0.75}, confusion=((0, 0, 2), (0, 1, 1), (1, 1, 1)))
    progress = msgspec.structs.replace(PROGRESS, evaluations=(BEFORE, after))
    card = model_card(
        job(tmp_path, kind="hub", location="o/base"),
        progress,
        SAMPLES,
        read=READ,
        classes=classes,
        trainable_params=98_304,
        versions={"torch": "2"},
    )
    assert "| class\\|0 | 3 | 1.000 | 0.667 | 0.800 |\n| class\\|1 | 1 | 0.500 | 1.000 | 0.667 |" in card
    assert ("| class\\|0 | 2 | 1 |\n| class\\|1 | 0 | 1 |" in card) == (num_classes == 2)

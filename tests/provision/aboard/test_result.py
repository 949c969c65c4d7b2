"""What comes home as a result: files that are read, none that runs."""

from __future__ import annotations

import pytest

from provision.aboard.result import MOST_MESSAGE, MOST_TOLD, SCRIPTS, sober
from remote.contract import AdapterFile, EndReason, Measured, Outcome


def ended(*paths: str, message: str = "Done.") -> Outcome:
    files = tuple(AdapterFile(path=path, size_bytes=1, sha256="0" * 64) for path in paths)
    return Outcome(run_id="run", reason=EndReason.COMPLETED, message=message, phase_s={}, measured=Measured(), adapter=files)


def test_what_the_trainer_writes_comes_home() -> None:
    outcome = ended(
        "adapter_model.safetensors",
        "adapter_config.json",
        "lora/adapter_model.safetensors",
        "README.md",
        "chat_template.jinja",
        "tokenizer.model",
        "sha256sums.txt",
        "reports/tensorboard/events.out.tfevents.1795000000.0000",
        "reports/wandb_offline/wandb/offline-run-20261127_190000-r/run-r.wandb",
        *SCRIPTS,
    )
    assert sober(outcome) == outcome


@pytest.mark.parametrize(
    "path",
    ["evil.pkl", "adapter_model.bin", "state.pt", "setup.py", "deep/try.py", "pickle", "x.safetensors.part", "reports/x.pkl"],
)
def test_what_may_run_is_left_on_the_box_and_named(path: str) -> None:
    outcome = sober(ended("adapter_model.safetensors", path))
    assert [file.path for file in outcome.adapter] == ["adapter_model.safetensors"]
    assert outcome.message == f"Done. Left on the box, since no result of ours has such a file: {path!r}."


def test_a_result_of_pickles_alone_is_none() -> None:
    assert not sober(ended("adapter_model.bin")).trained


def test_a_few_of_many_are_named() -> None:
    message = sober(ended(*(f"{each}.pkl" for each in range(1000)))).message
    assert message.endswith(f"'{MOST_TOLD - 1}.pkl', ….")


def test_a_message_without_end_is_cut() -> None:
    """It stands in the receipt, in the report and in alerts."""
    assert sober(ended(message="A" * 5_000_000)).message == f"{'A' * MOST_MESSAGE} …"


@pytest.mark.torch
def test_the_scripts_are_those_of_the_trainer() -> None:
    from remote.result.save import MODULES_FILE, READER_FILE, TRY_FILE

    assert frozenset((TRY_FILE, MODULES_FILE, READER_FILE)) == SCRIPTS

"""What the controller hands over for the trainer alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from remote.__main__ import take_secrets
from remote.contract import SECRETS_VARIABLE


def test_they_are_read_once_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "secrets"
    place.write_text('{"HF_TOKEN": "hf_secret"}')
    monkeypatch.setenv(SECRETS_VARIABLE, str(place))
    monkeypatch.setenv("HF_TOKEN", "")
    take_secrets()
    assert os.environ["HF_TOKEN"] == "hf_secret"
    assert SECRETS_VARIABLE not in os.environ
    assert not place.exists()


@pytest.mark.parametrize("text", [None, b"half a fi", b'"\xff"'])
def test_without_them_the_trainer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes | None) -> None:
    """A restarted trainer may have its base already; if not, the hub says what is missing."""
    if text is not None:
        (tmp_path / "secrets").write_bytes(text)
    monkeypatch.setenv(SECRETS_VARIABLE, str(tmp_path / "secrets"))
    take_secrets()
    assert SECRETS_VARIABLE not in os.environ

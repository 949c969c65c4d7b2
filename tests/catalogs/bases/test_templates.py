"""Which bases have no chat template, by their names."""

from __future__ import annotations

import pytest

from catalogs.bases.models import registry
from catalogs.bases.templates import templateless


@pytest.mark.parametrize(
    ("said", "hub_id", "chat_version"),
    [
        ("8b", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-chat-hf"),
        ("google/gemma-3-4b-pt", "google/gemma-3-4b-pt", "google/gemma-3-4b-it"),
        ("unsloth/Llama-3.2-1B", "unsloth/Llama-3.2-1B", "unsloth/Llama-3.2-1B-Instruct"),  # by the same owner first
        ("NousResearch/Meta-Llama-3-8B", "NousResearch/Meta-Llama-3-8B", "meta-llama/Meta-Llama-3-8B-Instruct"),
        ("gpt2", "openai-community/gpt2", None),
    ],
)
def test_a_base_is_told_from_its_chat_version(said: str, hub_id: str, chat_version: str | None) -> None:
    assert templateless(said) == (hub_id, chat_version)


@pytest.mark.parametrize("said", ["meta-llama/Llama-3.1-8B-Instruct", "7b", "Qwen/Qwen3-8B-Base", "phi-4", "./model", "x/y"])
def test_of_what_has_one_or_nobody_knows_nothing_is_said(said: str) -> None:
    """Qwen's bases bring the template of their chat versions; phi-4 has one under the only name that it has."""
    assert templateless(said) is None


def test_what_is_named_instead_has_one_itself() -> None:
    """And is of the same shape: it stands in the same row."""
    for row in registry():
        for found in filter(None, map(templateless, row.hub)):
            assert found.chat_version is None or (found.chat_version in row.hub and templateless(found.chat_version) is None)

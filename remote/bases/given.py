"""What a frozen base gives to the head above it: taken once for each row, and given again without the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import torch

from remote.ends import bad_job

ALIKE: Final = 0.02  # assumed: of the largest logit; another place of a row is off by its whole size
APART: Final = 0.1  # assumed: of what the next place is off by, at the most, for one that is the right one beyond doubt

Read = Callable[[Any, torch.Tensor], torch.Tensor]  # the base's output, the mask [rows, tokens] → [rows, features]


def _of_mean(output: Any, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.unsqueeze(-1).to(output.last_hidden_state.dtype)
    found: torch.Tensor = (output.last_hidden_state * weights).sum(dim=1) / weights.sum(dim=1)
    return found


def _of_last(output: Any, mask: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = output.last_hidden_state[torch.arange(len(mask)), mask.sum(dim=1) - 1]
    return found


# Where the heads of transformers' models read a row.
PLACES: Final[Mapping[str, Read]] = {
    "pooled": lambda output, _: output.pooler_output,
    "first": lambda output, _: output.last_hidden_state[:, 0],
    "last": _of_last,
    "mean": _of_mean,
}


class _Given(NamedTuple):
    """As the heads of transformers 5 read what a base gives: by place or by name."""

    last_hidden_state: torch.Tensor
    pooler_output: torch.Tensor
    cache: None = None
    past_key_values: None = None
    hidden_states: None = None
    attentions: None = None


def given_by(model: Any, read: Mapping[str, torch.Tensor | None], mask: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """The base's own output for rows, and the logits of the head above it. `read`: arguments of the model."""
    heard: list[Any] = []
    hook = _base(model).register_forward_hook(lambda _module, _arguments, output: heard.append(output))
    try:
        logits = model(**read, attention_mask=mask, use_cache=False).logits
    finally:
        hook.remove()
    return heard[0], logits


def place_of(model: Any, read: Mapping[str, torch.Tensor | None], mask: torch.Tensor) -> str:
    """Where this model's head reads a row: the place from which alone it makes the same logits. Raises `Ended` (bad job) where
    it reads more than one, or these rows don't tell which: of one token the first is the last.
    """
    output, logits = given_by(model, read, mask)
    alike: dict[str, float] = {}  # place → what of the largest logit it is off by
    for name, place in PLACES.items():
        if name == "pooled" and (getattr(output, "pooler_output", None) is None or _pooler_trains(model)):
            continue
        with standing_in(model, place(output, mask)):
            again = logits_of_one(model, len(mask), mask.device)
        off = float((again - logits).abs().max() / logits.abs().max())
        if off <= ALIKE:
            alike[name] = off
    if not alike:
        raise bad_job("the head of this base reads more of a row than one embedding, so balance smote has none to draw between")
    nearest, *others = sorted(alike, key=lambda name: alike[name])
    if any(alike[nearest] >= APART * alike[name] for name in others):
        raise bad_job(
            f"the rows don't tell whether the head of this base reads a row at its {nearest} or at its {others[0]} token, "
            "which balance smote has to know; use longer rows, or balance class_weights"
        )
    return nearest


def logits_of_one(model: Any, rows: int, device: torch.device) -> torch.Tensor:
    """The head's logits [rows, classes], of what stands in for the base."""
    one = torch.ones((rows, 1), dtype=torch.int64, device=device)
    found: torch.Tensor = model(input_ids=one, attention_mask=one, use_cache=False).logits
    return found


@contextmanager
def standing_in(model: Any, given: torch.Tensor) -> Iterator[None]:
    """In this block the base gives `given` [rows, features], as rows of one token each, and computes nothing."""
    base = _base(model)
    given = given.to(base.dtype)

    def forward(*_arguments: Any, **_named: Any) -> Any:
        hidden = given[:, None]
        pooled = base.pooler(hidden) if _pooler_trains(model) else given
        return _Given(hidden, pooled)

    base.forward = forward
    try:
        yield
    finally:
        del base.forward


def _base(model: Any) -> Any:
    return getattr(model, model.base_model_prefix)


def _pooler_trains(model: Any) -> bool:
    """Whether a pooler that the base brought no weights for is of the head."""
    pooler = getattr(_base(model), "pooler", None)
    return pooler is not None and any(each.requires_grad for each in pooler.parameters())

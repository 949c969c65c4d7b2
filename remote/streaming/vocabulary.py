"""Embedding and head in host memory: rows of the one are gathered there, the other comes to the device for the loss alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from remote.ends import bad_job

FETCH: Final = "fetched_matrix"  # the attribute of a head that gives its matrix on the device
Room = Callable[[int], Any]  # bytes → so many of them on the host, where they stay


class Vocabulary:
    """Guards the two matrices, or the one where they are tied: reading a weight of them gives the host's copy.

    The embedding's rows are gathered by ids that the host has to read, so a forward pass waits once for what was asked of the
    device before. The head is there from when a loss asks for it until nothing needs it any more, which is before any block
    is computed again.
    """

    def __init__(self, model: Any, device: str, room: Room) -> None:
        """Packs them into `room`, whichever of them hang in `model`. Raises `Ended` (bad job) for a head that is no matrix."""
        import torch

        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        if type(head) is not torch.nn.Linear:
            raise bad_job(f"the output matrix is a {type(head).__name__}, which can't come and go: say vocabulary_passes false")
        self._device, self._embedding, self._head = device, embedding, head
        self._held: Any = None
        self._holding = False
        self.fetched_bytes = 0
        self.keys: set[tuple[int, str]] = set()
        for weight in {id(each.weight): each.weight for each in (head, embedding)}.values():
            home = room(weight.numel() * weight.element_size()).view(weight.dtype).view(weight.shape)
            home.copy_(weight.data)
            weight.data = home
            self.keys.add((id(weight), "data"))
        own = type(embedding).forward
        embedding.forward = partial(self._looked_up, partial(own, embedding))
        head.forward = self._logits
        setattr(head, FETCH, self.matrix)

    def matrix(self) -> Any:
        """The head's on the device, alive as long as it is needed."""
        import torch

        if self._held is not None:
            return self._held
        weight = self._head.weight.data
        here = torch.empty(weight.shape, dtype=weight.dtype, device=self._device)
        here.copy_(weight, non_blocking=True)
        self.fetched_bytes += here.numel() * here.element_size()
        self._held = here if self._holding else None
        return here

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it the head comes once, for all losses that one visit of the blocks serves."""
        self._holding = True
        try:
            yield
        finally:
            self._holding, self._held = False, None

    def _logits(self, hidden: Any) -> Any:
        import torch

        return torch.nn.functional.linear(hidden, self.matrix(), self._head.bias)

    def _looked_up(self, own: Callable[[Any], Any], ids: Any) -> Any:
        """As the embedding's own class does it (some scale what they find), over the rows that were asked for."""
        import torch

        embedding, weight = self._embedding, self._embedding.weight
        asked = ids.detach().cpu().reshape(-1)
        rows = torch.empty((len(asked), weight.shape[1]), dtype=weight.dtype, pin_memory=self._device != "cpu")
        torch.index_select(weight.data, 0, asked, out=rows)
        here = rows.to(self._device, non_blocking=True)
        self.fetched_bytes += here.numel() * here.element_size()
        home, padding = weight.data, embedding.padding_idx  # which says only that a row gets no gradient
        weight.data, embedding.padding_idx = here, None
        try:
            return own(torch.arange(len(asked), device=here.device).view(ids.shape))
        finally:
            weight.data, embedding.padding_idx = home, padding


def matrix_of(head: Any) -> Any:
    """The matrix that makes logits, on the device that computes."""
    fetch = getattr(head, FETCH, None)
    return head.weight if fetch is None else fetch()

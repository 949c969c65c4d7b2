"""In what a card multiplies fp32: in fp32, or in TF32 where a job asks for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from remote.contract import has_tf32


def card_capability(device: str) -> tuple[int, int] | None:
    """Compute capability of the job's NVIDIA card; None on a processor, and on a card of another maker."""
    import torch

    if device != "cuda" or torch.version.cuda is None:
        return None
    major, minor = torch.cuda.get_device_capability(0)
    return int(major), int(minor)


def fp32_products() -> Literal["fp32", "tf32"]:
    """In what a card's fp32 products are made now."""
    import torch

    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "fp32"


@contextmanager
def multiplying(capability: tuple[int, int] | None, tell: Callable[[str], object], *, tf32: bool) -> Iterator[None]:
    """Within it cuBLAS rounds both sides of an fp32 product to TF32 (10 bits of mantissa) and sums in fp32, where `tf32` asks
    for it and the card has it; where the card has not, that is told. Behind it all is as it was.

    torch 2.15 fails to read its older switches (`allow_tf32`) while this one is set, so nothing here uses them.
    """
    import torch

    if not tf32:
        yield
        return
    if not has_tf32(capability):
        tell(_without(capability))
        yield
        return
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = "tf32"
    try:
        yield
    finally:
        products.fp32_precision = before


def _without(capability: tuple[int, int] | None) -> str:
    what = "no NVIDIA card computes here" if capability is None else "this card has {}.{}".format(*capability)
    return f"tf32 changes nothing: it takes an NVIDIA card of compute capability 8.0 or later, and {what}"

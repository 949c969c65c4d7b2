"""Pretend, for the length of a `with`, that there is a CUDA card: what torch asks about cards is answered with yes.

The answers are global to the process, so one trace runs at a time.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from planner.estimators.trace.autocast import Casts
from planner.estimators.trace.readers import Answer, readers


@contextmanager
def posing_as_cuda(casts: Casts) -> Iterator[None]:
    """Questions about the device are answered as on a card; every answer is taken back at the end."""
    answers = _answers(casts)
    before = [getattr(answer.place, answer.name) for answer in answers]
    with _hushed():
        for answer in answers:
            setattr(answer.place, answer.name, answer.value)
        try:
            yield
        finally:
            for answer, value in zip(answers, before, strict=True):
                setattr(answer.place, answer.name, value)


def _answers(casts: Casts) -> list[Answer]:
    import torch
    import torch.utils.checkpoint

    optimizers = import_module("torch.optim.optimizer")  # torch.optim takes the name away from itself
    leave_autocast, autocast_dtype = torch.clear_autocast_cache, torch.get_autocast_dtype

    def cleared() -> None:
        casts.clear()
        leave_autocast()

    def autocast(device_type: str, *arguments: Any, **options: Any) -> Any:
        return torch.amp.autocast("cuda" if device_type == "meta" else device_type, *arguments, **options)

    return [
        Answer(torch.cuda.amp.common, "amp_definitely_not_available", _constant(False)),  # noqa: FBT003
        Answer(torch.cuda, "is_bf16_supported", _constant(True)),  # noqa: FBT003
        Answer(torch.utils.checkpoint, "_infer_device_type", _constant("cuda")),
        Answer(optimizers, "_get_fused_kernels_supported_devices", _constant(["cuda", "cpu", "meta"])),
        Answer(torch, "autocast", autocast),
        Answer(
            torch, "get_autocast_dtype", lambda device_type: autocast_dtype("cuda" if device_type == "meta" else device_type)
        ),
        Answer(torch, "clear_autocast_cache", cleared),
        *readers(),
    ]


def _constant(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


@contextmanager
def _hushed() -> Iterator[None]:
    """Libraries say to a log what concerns training; nobody trains here."""
    named = [logging.getLogger(name) for name in ("bitsandbytes", "transformers", "torch")]
    levels = [logger.level for logger in named]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in named:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(named, levels, strict=True):
                logger.setLevel(level)

"""Every gradient of a streamed model beside those of one that lies on the device as a whole, at real block sizes.

Equal numerics: both call the same kernels on the same numbers, so each tensor has to be equal, bit for bit. Beside the arms
that must be equal stand controls that must not be: one that refills its slots outside of what is recomputed, and on a GPU one
whose copies and kernels don't wait for one another. A second resident arm shows what the device itself repeats.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from remote.contract import Loop, Strategy, Streaming

LOOP: Final = Loop()
NUM_BLOCKS: Final = 4  # with two slots each is refilled before its backward pass
SLEEP_CYCLES: Final = 40_000_000  # about 20 ms at 1.98 GHz: longer than a block's copy or its kernels


class Arm(NamedTuple):
    """One way to have the blocks on the device. `lane` None = the usual one."""

    streaming: Streaming | None  # None = none: all of it resident
    must_equal: bool
    lane: Callable[[int], Any] | None = None
    careless: bool = False


def by(num_slots: int, num_resident_blocks: int = 0, num_disk_blocks: int = 0, *, vocabulary_passes: bool = False) -> Streaming:
    """So many slots, so many blocks that stay, and so many that wait on the disk."""
    return Streaming(
        num_slots=num_slots,
        num_resident_blocks=num_resident_blocks,
        num_visits=1,
        num_blocks_without_recompute=0,
        num_disk_blocks=num_disk_blocks,
        vocabulary_passes=vocabulary_passes,
    )


def arms(device: str, quant: str) -> Mapping[str, Arm]:
    """All that are compared with the resident model, in their order. Of int8 no race can be lost: bitsandbytes looks for
    outliers among the inputs of each product, and the host waits for what it finds.
    """
    everywhere = {
        "resident, again": Arm(None, must_equal=True),
        "streamed, 2 slots": Arm(by(2), must_equal=True),
        "streamed, 3 slots": Arm(by(3), must_equal=True),
        "streamed, 1 of 4 resident": Arm(by(2, 1), must_equal=True),
        "streamed, 3 of 4 on the disk": Arm(by(2, 0, 3), must_equal=True),
        "streamed, embedding and head, too": Arm(by(2, vocabulary_passes=True), must_equal=True),
        "control: refilled outside of what is recomputed": Arm(None, must_equal=False, careless=True),
    }
    late = {
        "streamed, copies late": Arm(by(2), must_equal=True, lane=_late_copies),
        "streamed, kernels late": Arm(by(2), must_equal=True, lane=_late_kernels),
    }
    lost = {"control: copies and kernels do not wait": Arm(by(2), must_equal=False, lane=_unordered)}
    return everywhere | (late if device == "cuda" else {}) | (lost if device == "cuda" and quant != "int8" else {})


def gradient_rows(config: Mapping[str, Any], strategy: Strategy, device: str) -> list[dict[str, Any]]:
    """A row for each arm: how many tensors differ from the resident model's, and by how much of the largest entry."""
    resident = _gradients(config, strategy, device, Arm(None, must_equal=True))
    rows = []
    for name, arm in arms(device, strategy.quant).items():
        _let_go(device)
        started = time.monotonic()
        found = _gradients(config, strategy, device, arm)
        unequal = [key for key, gradient in resident.items() if not found[key].equal(gradient)]
        rows.append(
            {
                "arm": name,
                "must_equal": arm.must_equal,
                "tensors": len(resident),
                "unequal": len(unequal),
                "largest_difference": max(float(_apart(found[key], resident[key])) for key in resident),
                "as_it_must_be": (not unequal) == arm.must_equal,
                "wall_s": round(time.monotonic() - started, 2),
            }
        )
    return rows


def _let_go(device: str) -> None:
    """Of the arm before, whose model holds itself: nothing may be on its way into memory that is handed out anew."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def _apart(one: Any, other: Any) -> Any:
    """As a share of the largest entry."""
    return (one - other).abs().max() / other.abs().max().clamp_min(1e-30)


def _gradients(config: Mapping[str, Any], strategy: Strategy, device: str, arm: Arm) -> dict[str, Any]:
    """Of two micro-batches, on the host: the second finds the slots as the first left them."""
    import torch

    from remote.adapters import adapt, base_of
    from remote.bases.base import checkpoint_activations
    from remote.measure.random_weights import random_batch, random_model, vocabulary_of
    from remote.step import autocast, settings_of
    from remote.streaming import settle

    offload: Any = "none" if arm.streaming is None else "stream"
    strategy = msgspec.structs.replace(strategy, offload=offload, streaming=arm.streaming)
    torch.manual_seed(1)
    disk = Path(tempfile.gettempdir())
    model = random_model(config, strategy, device, lane=None if arm.lane is None else arm.lane(2), disk=disk)
    if strategy.quant == "none":
        _draw(model, device)
    if arm.careless:
        _refill_outside(base_of(model))
    torch.manual_seed(2)
    model = adapt(model, strategy, LOOP)
    settle(model)
    checkpoint_activations(base_of(model), strategy)
    model.train()
    _move_off_zero(model)
    torch.manual_seed(4)
    settings = settings_of(strategy, device, LOOP.max_grad_norm)
    for micro in random_batch(strategy, vocabulary=vocabulary_of(config, model), device=device):
        with autocast(settings):
            loss = model(input_ids=micro.input_ids, labels=micro.labels, use_cache=False).loss
        loss.backward()
    return {name: each.grad.cpu() for name, each in model.named_parameters() if each.requires_grad}


def _draw(model: Any, device: str) -> None:
    """The same weights in every arm: transformers draws those of a whole model in an order of its own."""
    import torch

    drawn = torch.Generator(device).manual_seed(5)
    for parameter in model.parameters():
        parameter.data.copy_(
            torch.empty(parameter.shape, dtype=parameter.dtype, device=device).normal_(0, 0.02, generator=drawn)
        )


def _move_off_zero(model: Any) -> None:
    """LoRA's B begins at zero, and the gradients of A with it."""
    import torch

    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.empty(parameter.shape, dtype=parameter.dtype).normal_(0, 0.01).to(parameter.device)


def _refill_outside(model: Any) -> None:
    """The negative control: each block's own hook refills one of two slots, and what is recomputed passes it by."""
    import torch

    from remote.streaming.places import layout_of, places_in, views

    blocks = list(model.get_decoder().layers)
    packed = [[place for place in places_in(block) if place.travels] for block in blocks]
    layouts = [layout_of(places) for places in packed]
    size_bytes = max(layout.size_bytes for layout in layouts)
    sources, slots = (
        [torch.empty(size_bytes, dtype=torch.uint8, device=packed[0][0].read().device) for _ in range(number)]
        for number in (len(blocks), 2)
    )

    def refills(number: int) -> Callable[[Any, Any], None]:
        def refill(_module: Any, _inputs: Any) -> None:
            slots[number % 2].copy_(sources[number])
            for place, view in zip(packed[number], views(layouts[number], slots[number % 2]), strict=True):
                place.put(view)
            for module in blocks[number].modules():
                if hasattr(module, "init_8bit_state"):
                    module.state.CB = module.weight.data  # of int8 this is what is multiplied by

        return refill

    for number, block in enumerate(blocks):
        for place, view in zip(packed[number], views(layouts[number], sources[number]), strict=True):
            view.copy_(place.read())
        block.register_forward_pre_hook(refills(number))


# ── the race, on a GPU ─────────────────────────────────────────────────────────────────────────────────────────────────


def _sleep() -> None:
    import torch

    torch.cuda._sleep(SLEEP_CYCLES)  # noqa: SLF001 - no public name


def _late_copies(num_slots: int) -> Any:
    """Each copy begins late: a kernel that did not wait for it would compute with what the slot held before."""
    import torch

    from remote.streaming.lanes import Beside

    class LateCopies(Beside):
        def fetch(self, slot: int, into: Any, source: Any) -> None:
            with torch.cuda.stream(self._stream):
                _sleep()
            super().fetch(slot, into, source)

    return LateCopies(num_slots)


def _late_kernels(num_slots: int) -> Any:
    """Kernels of each visit begin late: a copy that did not wait for them would give them another block's weights."""
    from remote.streaming.lanes import Beside

    class LateKernels(Beside):
        def arrive(self, slot: int) -> None:
            super().arrive(slot)
            _sleep()

    return LateKernels(num_slots)


def _unordered(num_slots: int) -> Any:
    """Both late, and nobody waits."""
    import torch

    from remote.streaming.lanes import Beside

    class Unordered(Beside):
        def fetch(self, _slot: int, into: Any, source: Any) -> None:
            with torch.cuda.stream(self._stream):
                into.copy_(source, non_blocking=True)

        def arrive(self, _slot: int) -> None:
            _sleep()

    return Unordered(num_slots)

"""AdaLoRA's ranks (Zhang et al., arXiv:2303.10512), handed out anew after each optimizer step. peft allots; this asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from remote.ends import bad_job

SMOOTHED: Final = ("exp_avg_ipt", "exp_avg_unc")  # what peft's allocator remembers: importance and its uncertainty


WEIGHED_STEPS: Final = 2  # derived: peft 0.21 notes a rank's importance from the first step on, and masks by it at the last


class Ranks:
    """Guards which ranks of an adapter are left. A rank that was taken away is a singular value of exactly zero."""

    def __init__(self, tuner: Any, total_steps: int | None, said_steps: int | None = None) -> None:
        """`tuner`: peft's AdaLoraModel, as before any step. `total_steps`: of the run; None = there is none, and the schedule
        is its configuration's. `said_steps`: those that the job gives the schedule; None = it is as long as the run. Raises
        `Ended` (bad job) for a schedule that the run would not come to the end of.
        """
        self._tuner = tuner
        self._allocator = tuner.rankallocator
        self._allocator.reset_ipt()
        if total_steps is not None:
            steps = total_steps if said_steps is None else said_steps
            _require_time(tuner.peft_config[tuner.trainable_adapter_name], steps, total_steps)
            self._allocator.set_total_step(steps)
        self.step = 0  # the optimizer step that comes next, from 1 on; at 0 importance is taken, and no rank away

    def watch(self, optimizer: Any) -> None:
        """Hand out ranks whenever `optimizer` has stepped, while the gradients are still there."""
        optimizer.register_step_post_hook(lambda *_: self._allot(optimizer))

    def _allot(self, optimizer: Any) -> None:
        overflow = getattr(optimizer, "found_inf", None)  # of a gradient scaler whose optimizer skips the step by itself
        if overflow is None or not overflow.item():
            self.take_note()

    def take_note(self) -> None:
        """Weigh the ranks by the gradients that are there, and take some away where the schedule says so."""
        self._tuner.update_and_allocate(self.step)

    def state(self) -> dict[str, dict[str, Any]]:
        """What a checkpoint keeps. Which ranks are left, the weights say."""
        return {name: dict(getattr(self._allocator, name)) for name in SMOOTHED}

    def restore(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Go on from what a checkpoint kept. The weights are there already."""
        devices = {name: parameter.device for name, parameter in self._tuner.model.named_parameters()}
        for kind in SMOOTHED:
            setattr(self._allocator, kind, {name: tensor.to(devices[name]) for name, tensor in state[kind].items()})
        self._allocator.ipt = dict(self._allocator.exp_avg_ipt)  # a place for each; it is computed anew before it is read
        name_ranks(self._tuner)


def _require_time(config: Any, steps: int, total_steps: int) -> None:
    if steps > total_steps:
        raise bad_job(f"adalora's schedule has {steps} steps, and the run has {total_steps} steps; leave total_step out")
    if steps < WEIGHED_STEPS:
        raise bad_job("adalora weighs ranks at one step and takes them away at a later one, and the run has 1 step; use lora")
    if config.tinit + config.tfinal >= steps:
        raise bad_job(
            f"adalora takes ranks away between step tinit ({config.tinit}) and the last tfinal ({config.tfinal}) steps, "
            f"and the run has {total_steps} steps; lower them in method_options"
        )


def tuner_of(model: Any) -> Any:
    """Peft's AdaLoraModel within `model`; None where it has none."""
    tuner = getattr(model, "base_model", None)
    return tuner if hasattr(tuner, "rankallocator") else None


def name_ranks(tuner: Any) -> None:
    """Say in the adapter's configuration which ranks are left: peft masks and saves by that."""
    left = dict(_left(tuner.model))
    tuner.peft_config[tuner.trainable_adapter_name].rank_pattern = None if all(map(all, left.values())) else left


def _left(model: Any) -> Iterator[tuple[str, list[bool]]]:
    for name, parameter in model.named_parameters():
        if ".lora_E." in name:
            yield name, (parameter.detach().flatten() != 0).tolist()

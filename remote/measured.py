"""What one step really takes: the question and the answer of `remote.measure`. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from remote.contract import Strategy, Value

Device = Literal["cuda", "cpu"]
StepEnd = Literal["measured", "out_of_memory"]


class StepAsked(Value, frozen=True, kw_only=True):
    """One configuration to be run with random weights and random tokens."""

    config: dict[str, Any]  # of transformers, with its model_type
    strategy: Strategy
    device: Device
    num_steps: int = 3  # timed ones, after a first that makes the optimizer's states


class StepMeasured(Value, frozen=True, kw_only=True):
    """What was seen. Bytes of GPU memory are None on a CPU: nothing of CUDA can be measured there."""

    end: StepEnd
    device_name: str
    versions: dict[str, str]
    allocated_bytes: dict[str, int] | None = None  # after "weights", "adapter", "states"; at most in "step", "evaluation"
    reserved_peak_bytes: int | None = None
    process_bytes: int | None = None  # NVML: of this process, else what the card has in use more than before
    context_bytes: int | None = None  # of the process, beside what torch reserved
    step_s: float | None = None  # the median
    queued_s: float | None = None  # of them, until the last kernel was handed to the device; on a CPU that is the step
    tokens_per_s: float | None = None
    power_w: float | None = None  # over the timed steps
    loss: float | None = None  # of the last one
    message: str | None = None  # of what ran out

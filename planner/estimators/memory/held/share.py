"""`Share`: one GPU's part of what a job holds beside its activations."""

from __future__ import annotations

from typing import NamedTuple


class Share(NamedTuple):
    """One GPU's part. Counts are divisors or bytes."""

    num_layers: int  # blocks whose activations live here
    weights: int  # bytes of frozen and trained base weights at rest here
    loaded: int  # the same before preparation has cast any
    gathered: int  # bytes of weights that lie elsewhere, while computing
    added: int  # adapter
    gradients: int
    states: int
    masters: int  # fp32 copies that the sharding keeps of 16-bit parameters
    buckets: int  # communication buffers, there from the start
    step_scratch: int  # temporaries of the optimizer's step
    gradient_share: int  # a block's gradients are divided by this once they are reduced

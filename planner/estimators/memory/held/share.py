"""`Share`: one GPU's part of what a job holds beside its activations; `Stage`: which part of the model it computes."""

from __future__ import annotations

from typing import Final, NamedTuple


class Stage(NamedTuple):
    """What the fullest GPU computes of a model that is spread over several: so many of its layers, and of each matrix a part.

    Both ends count as here: they are not cut by layers, and device_map may put them on one GPU.
    """

    num_layers: int
    depth: int  # layers of the whole model
    matrices_cut_into: int

    def of_blocks(self, whole: int) -> int:
        """Of a number over all blocks, what lies here."""
        return self.num_layers * whole // self.depth // self.matrices_cut_into

    def of_ends(self, whole: int) -> int:
        """Of a number outside the blocks, what lies here."""
        return whole // self.matrices_cut_into


UNCUT: Final = Stage(num_layers=1, depth=1, matrices_cut_into=1)  # derived: one GPU computes all of it


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
    gradient_widened: int  # and a number of them takes so many times its bytes from then on

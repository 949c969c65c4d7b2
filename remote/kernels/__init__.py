"""How blocks are computed: module by module as transformers writes them, or by fewer kernels that do the same."""

from __future__ import annotations

from remote.kernels.compiled import compile_blocks, is_not_compiled, run_eagerly, why_not_compiled
from remote.kernels.fused import fuse, unfuse
from remote.kernels.graphs import Graphs, graphs_of
from remote.kernels.masks import rows_apart

__all__ = [
    "Graphs",
    "compile_blocks",
    "fuse",
    "graphs_of",
    "is_not_compiled",
    "rows_apart",
    "run_eagerly",
    "unfuse",
    "why_not_compiled",
]

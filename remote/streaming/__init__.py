"""Layer streaming: frozen blocks lie in host memory and pass through a few slots on the device, just in time.

`places` finds the tensors of a block that travel, `store` packs them into arenas, `lanes` carries them to the device, `visits`
says which block comes next, `linears` are bitsandbytes' with a backward pass that reads the weight of that moment, `vocabulary`
has embedding and head wait on the host as well, and `streamed` puts it all together. `together` leads several micro-batches
through the blocks by the same visits.
"""

from __future__ import annotations

from remote.streaming.streamed import Streamed, settle, stream, streamed_of

__all__ = ["Streamed", "settle", "stream", "streamed_of"]

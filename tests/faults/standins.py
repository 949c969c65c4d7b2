"""A local box whose trainer is a few lines of shell: the walk, the line and the box are real, and no second is trained."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from catalogs.hardware import Offer
from provision.aboard.ship import STACK_MARK, stack_hash
from provision.direct.local import LocalBox
from provision.providers import boxes_folder
from provision.seam import Answer, Box, Claim, Launch, Owned
from remote.contract import AdapterFile, EndReason, Measured, Outcome, encode
from tests.doubles.proxy import Proxy
from tests.faults.rehearsal import Rehearsal

WEIGHTS = b"weights"
ADAPTER = AdapterFile(path="adapter.safetensors", size_bytes=len(WEIGHTS), sha256=hashlib.sha256(WEIGHTS).hexdigest())
# What a trainer that succeeds leaves behind.
FINISH = "mkdir -p output; printf weights > output/adapter.safetensors; cp $HERE/outcome.json outcome.json"
# What one has saved that has done four steps; the best were the first two.
LEARN = """for step in 00000002 00000004; do
  mkdir -p checkpoints/.making; printf "weights of $step" > checkpoints/.making/trainable.safetensors
  printf '{"step": 4, "best_step": 2}' > checkpoints/.making/progress.json; printf state > checkpoints/.making/state.pt
  mv checkpoints/.making checkpoints/step-$step
done"""


class ScriptedBox(LocalBox):
    """A local box that is reached through `line` and trains by `lines`; its first listings may be empty by mistake."""

    def __init__(self, rehearsal: Rehearsal, line: Proxy, lines: str) -> None:
        super().__init__(boxes_folder(rehearsal.places), rehearsal.places.cache)
        self.line = line
        self.stack = rehearsal.folder / "stack"
        self.python = _trainer(self.stack, lines)
        self.empty_lists = 0

    def up(self, offer: Offer, launch: Launch) -> Box:
        _write_outcomes(self.stack, launch.run_id)
        box = super().up(offer, launch)
        self.line.target_port = box.port
        return msgspec.structs.replace(box, port=self.line.port, python=self.python)

    def owned(self, claim: Claim | None = None) -> Owned:
        if self.empty_lists:
            self.empty_lists -= 1
            return Owned(resources=(), complete=Answer.YES)
        return super().owned(claim)


def _trainer(stack: Path, lines: str) -> str:
    """An "interpreter" that says where its stack is, and whose trainer is `lines`."""
    stack.mkdir(exist_ok=True)
    (stack / STACK_MARK).write_text(stack_hash())
    script = stack / "python"
    script.write_text(f'#!/bin/sh\nHERE={stack}\nif [ "$1" = -c ]; then echo $HERE; exit; fi\n{lines}\n')
    script.chmod(0o755)
    return str(script)


def _write_outcomes(stack: Path, run_id: str) -> None:
    """What its trainer may leave as its own."""
    crashed = Outcome(run_id=run_id, reason=EndReason.CRASHED, message="It is broken.", phase_s={}, measured=Measured())
    done = msgspec.structs.replace(crashed, reason=EndReason.COMPLETED, message="Done.", adapter=(ADAPTER,))
    (stack / "outcome.json").write_bytes(encode(done))
    (stack / "crashed.json").write_bytes(encode(crashed))


# Pushes what was learned (LEARN), with the trainer's own hands for grants and pushes.
PUSH = """
from pathlib import Path
from remote.__main__ import take_grants
from remote.checkpoints.push import Pusher
from remote.telemetry import Events
for step, best in ((2, 2), (4, 2)):
    folder = Path(f"checkpoints/step-{step:08d}")
    (folder / "progress.json").write_text('{"step": %d, "best_step": %d}' % (step, best))
    (folder / "state.pt").write_text("state")
pusher = Pusher(take_grants(), Path("checkpoints"), Events(Path("events.jsonl")))
pusher.push(4, 2)
pusher.finish()
"""

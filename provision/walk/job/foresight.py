"""What the trainer's pace says of the deadline, told while there is time to do something about it.

A rented machine that the probe shows to be far too slow is given up within minutes, before it has cost what was allowed.
"""

from __future__ import annotations

from typing import Final

from planner.asking.request import OWN_MACHINES
from provision.account.bill import usd_so_far
from provision.errors import TrainingFailed
from provision.walk.driven import Run
from provision.watch.progress import outlasting_words
from provision.watch.view import View, after
from provision.words import seconds_words, usd_words
from remote.contract import Event

SLACK: Final = 1.2  # assumed: the probe's forecast is on the short side already; so much more is no noise


class Foresight:
    """Says once that the deadline will come before the end of the training, and ends what is hopeless from the first minute."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._view = View()
        self._told = False

    def heard(self, event: Event) -> None:
        """The next event of the trainer."""
        self._view = after(self._view, event)
        if event.kind == "probe":
            self._judge_probe(event)
        if not self._told and event.kind == "step" and self._view.outlasts(self._run.state.deadline_at_s):
            self._told = True
            self._run.display.note(outlasting_words(self._view, left_s=self._run.left_s))

    def _judge_probe(self, event: Event) -> None:
        """Raises TrainingFailed where the training would outlast the deadline by far, on a machine that bills.

        The deadline is where the money ends, or the hours. On a machine of one's own nothing is lost by going on to it.
        """
        run, data = self._run, event.data
        forecast_s, num_steps = float(data.get("forecast_s") or 0.0), int(data.get("total_steps") or 0)
        left_s = run.left_s
        if run.plan.offer.provider in OWN_MACHINES or not num_steps or forecast_s <= SLACK * left_s:
            return
        planned = f", planned were {data['planned_step_s']:.2f}" if data.get("planned_step_s") else ""
        usd, step_s = usd_so_far(run.state, now_s=run.clocks.wall()), float(data.get("step_s") or 0.0)
        fitting = max(1, int(num_steps * max(0.0, left_s) / forecast_s))
        raise TrainingFailed(
            f"The probe measured {step_s:.2f} s for the longest step{planned}: {num_steps:,} steps would take "
            f"{seconds_words(forecast_s)} at the least, and the deadline comes in {seconds_words(max(0.0, left_s))}. "
            f"The run was ended after {usd_words(usd)}, before it cost the rest.",
            hint=f"About {fitting:,} steps would fit (max_steps): fewer epochs, a larger --max-cost or --max-hours, or another "
            "machine.",
        )

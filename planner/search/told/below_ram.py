"""What is named to who lacks RAM beside a card that holds the job: that blocks wait on the disk."""

from __future__ import annotations

from planner.asking.request import Changes
from planner.search.boxes import could_wait_on_disk
from planner.search.figures import Figures
from planner.search.ranking import Question, box_of
from planner.search.told.notebook import BelowRam, Short


def waiting_on_disk(question: Question, figures: Figures, *, leads_to_a_plan: bool) -> BelowRam:
    """The change that lets a machine do which lacks RAM; nothing where it was said, or leads to no plan."""

    def below(short: Short) -> Changes:
        box = box_of(short.offer, question)
        does = could_wait_on_disk(short.strategy, box, short.kind, figures)
        return {"where.offload_disk": True} if leads_to_a_plan and does and not question.request.where.offload_disk else {}

    return below

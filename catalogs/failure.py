"""The root of every failure of ours. What is derived from it is told in its own words; anything else is a fault."""

from __future__ import annotations

KeyPath = tuple[str | int, ...]  # keys of a job file, from its top: ("where", "gpus", 0)


def ended_once(text: str) -> str:
    """The text with one stop where a sentence of its own stands at the end of another: what is told is made of parts."""
    if ".." not in text:
        return text
    import re  # only where there are two

    return re.sub(r"(?<=[\w)\]\"'”’])\.\.(?=\s|$)", ".", text)


class Failure(Exception):
    """What was asked can't be done. `message` is one sentence, `hint` what to type instead or next, or None; `place` says which
    value of a job file is at fault, as far as that is known.
    """

    def __init__(self, message: str, *, hint: str | None = None, place: KeyPath = ()) -> None:
        self.message = ended_once(message)
        self.hint = None if hint is None else ended_once(hint)
        super().__init__(self.message)
        self.place = place

    def found_at(self, where: str) -> None:
        """Begin the sentence with where the value stands: "job.yaml:3:5"."""
        self.message = f"{where}: {self.message}"
        self.args = (self.message,)
        self.place = ()  # it is told

"""What else peft 0.21 can hang on a base: known by its `peft_type`, without a closed form; a trace of a step counts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from planner.methods.method import Method, Prompt

AS_PEFT: Final = "as peft 0.21 has it"

RANKED: Final = (
    *("deft", "delora", "glora", "gralora", "hira", "hra", "lily", "miss", "peanut", "poly", "psoft", "pvera", "randlora"),
    *("shadow", "shira", "supertuning", "tinylora", "unilora", "vblora"),
)
UNRANKED: Final = (*("adamss", "adaption_prompt", "beft", "c3a", "frod", "osf", "road", "trainable_tokens", "waveft", "xlora"),)
PROMPTED: Final = ("cartridge", "cpt", "multitask_prompt_tuning")

OTHERS: Final[Mapping[str, Method]] = {
    **{name: Method(AS_PEFT, None, has_rank=True, default_rank=None) for name in RANKED},
    **{name: Method(AS_PEFT, None) for name in UNRANKED},
    **{name: Method(AS_PEFT, None, prompt=Prompt("sequence")) for name in PROMPTED},
}

"""LoRA's kin whose training is more than gradients: ranks that are handed out, a base that moves, rates and factors apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from remote.__main__ import carry_out
from remote.adapters import adapt
from remote.adapters.ranks import Ranks, tuner_of
from remote.contract import CAPABILITIES, OUTCOME_FILE, DataSource, JobSpec, Loop, ModelSource, Outcome, Strategy, decode
from remote.data.batches import MicroBatch
from remote.ends import Ended
from remote.result.save import save_weights
from remote.step import settings_of, step
from remote.training.optimizers import RATE_FACTOR, build_optimizer, set_learning_rate
from remote.watch import Watch
from tests.remote.conftest import CONFIG, LOOP, STRATEGY, Asked, MakeJob

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # peft about options of AdaLoRA's parent, and about a start on disk
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

change = msgspec.structs.replace
ADALORA = change(STRATEGY, method="adalora", method_options={"init_r": 6, "tinit": 2, "tfinal": 3})
KIN: dict[str, Strategy] = {
    "adalora": ADALORA,
    "pissa": change(STRATEGY, method="pissa"),
    "lora_plus": change(STRATEGY, method="lora_plus"),
    "lora_fa": change(STRATEGY, optimizer="lora_fa"),
}


def outcome_of(job: Path) -> Outcome:
    return decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)


def weights(job: Path) -> str:
    return next(file.sha256 for file in outcome_of(job).adapter if file.path == "adapter_model.safetensors")


@pytest.mark.parametrize("kin", KIN)
def test_a_run_that_was_stopped_brings_the_same_verified_result(make_job: MakeJob, kin: str) -> None:
    """Better than the base on rows never seen, reloaded to equal logits, and the same bytes as a run that was not stopped."""
    whole, stopped = make_job("whole", strategy=KIN[kin]), make_job("stopped", strategy=KIN[kin])
    assert carry_out(whole, watch=Watch()) == 0, outcome_of(whole).message
    found = outcome_of(whole)
    assert found.before is not None
    assert found.after is not None
    assert found.after.mean_loss < found.before.mean_loss
    assert carry_out(stopped, watch=Asked(28)) == 4
    assert carry_out(stopped, watch=Watch()) == 0
    assert weights(stopped) == weights(whole)


def base_model() -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    said = {"bos_token_id": 0, "eos_token_id": 0, **CONFIG}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**said))


def small(strategy: Strategy) -> Any:
    return adapt(base_model(), strategy, LOOP).train()


def batch() -> list[MicroBatch]:
    import torch

    torch.manual_seed(1)
    ids = torch.randint(5, 300, (2, 16))
    return [MicroBatch(input_ids=ids, labels=ids, attention_mask=None, num_targets=2 * 15)]


def ranks_left(model: Any) -> int:
    return sum(int((tensor != 0).sum()) for name, tensor in model.named_parameters() if ".lora_E." in name)


def test_adalora_ends_with_as_many_ranks_as_were_asked_for() -> None:
    """Seven linears in each of two blocks, from six ranks to four on average; none goes before `tinit`."""
    model = small(ADALORA)
    optimizer = build_optimizer(ADALORA, model, Loop(learning_rate=1e-2))
    ranks = Ranks(tuner_of(model), total_steps=12)
    ranks.watch(optimizer)
    left = []
    for number in range(12):
        ranks.step = number + 1
        step(model, batch(), optimizer, settings_of(ADALORA, "cpu", 1.0))
        left.append(ranks_left(model))
    places = 2 * 7
    assert left[:2] == [6 * places] * 2
    assert left[-4:] == [4 * places] * 4
    assert left == sorted(left, reverse=True)


def test_what_is_saved_of_adalora_has_no_more_ranks_than_are_left(make_job: MakeJob) -> None:
    from safetensors.torch import load_file

    job = make_job(strategy=ADALORA, loop=change(LOOP, evaluations=0))
    assert carry_out(job, watch=Watch()) == 0
    tensors = load_file(job.parent / "output" / "adapter_model.safetensors")
    assert sum(len(tensor) for name, tensor in tensors.items() if "lora_E" in name) == 4 * 2 * 7
    assert json.loads((job.parent / "output" / "adapter_config.json").read_text())["target_r"] == 4


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"rank": 12}, "starts with 12 ranks and keeps 12; set method_options init_r above rank 12"),
        ({"method_options": {"tinit": 9, "tfinal": 3}}, "and the run has 12 steps"),
    ],
)
def test_a_schedule_that_takes_no_rank_away_is_a_bad_job(said: dict[str, Any], words: str) -> None:
    with pytest.raises(Ended, match=words):
        Ranks(tuner_of(small(change(STRATEGY, method="adalora", **said))), total_steps=12)


def test_pissa_comes_home_as_lora_for_the_base_as_it_was(tmp_path: Path, byte_tokenizer: Any) -> None:
    """Onto an untouched base, the files say what the trained model says, whose own base has moved."""
    import torch
    from peft import PeftModel

    strategy = KIN["pissa"]
    base, model = base_model(), small(strategy)
    moved = model.get_base_model().model.layers[0].mlp.down_proj.base_layer.weight
    assert not torch.allclose(moved, base.model.layers[0].mlp.down_proj.weight, atol=1e-3)
    optimizer = build_optimizer(strategy, model, Loop(learning_rate=1e-2))
    for _ in range(3):
        step(model, batch(), optimizer, settings_of(strategy, "cpu", 1.0))
    source = ModelSource(kind="folder", location="base", name="base")
    save_weights(
        tmp_path,
        model,
        byte_tokenizer,
        JobSpec(run_id="r", model=source, data=DataSource(train="-"), strategy=strategy, loop=LOOP),
    )
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (saved["init_lora_weights"], saved["r"], saved["lora_alpha"]) == (True, 2 * 4, 2 * 8)
    again = PeftModel.from_pretrained(base, str(tmp_path)).eval()
    ids = batch()[0].input_ids
    with torch.no_grad():
        assert torch.allclose(again(input_ids=ids).logits, model.eval()(input_ids=ids).logits, atol=1e-4)


def test_pissa_over_packed_weights_is_not_yet_runnable() -> None:
    assert CAPABILITIES.missing(change(KIN["pissa"], quant="nf4")) == ("method=pissa over quant=nf4",)


def test_lora_plus_groups_are_peft_s_and_keep_their_ratio_through_the_schedule() -> None:
    import torch
    from peft.optimizers import create_loraplus_optimizer

    strategy = change(KIN["lora_plus"], method_options={"loraplus_lr_ratio": 4})
    model = small(strategy)
    ours = build_optimizer(strategy, model, Loop(learning_rate=1.0))
    set_learning_rate(ours, 0.5)
    theirs = create_loraplus_optimizer(model, torch.optim.AdamW, lr=0.5, loraplus_lr_ratio=4.0)

    def rates(optimizer: Any) -> dict[int, float]:
        return {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}

    assert rates(ours) == rates(theirs)
    assert {group.get(RATE_FACTOR, 1.0) for group in ours.param_groups} == {1.0, 4.0}


def test_lora_fa_leaves_the_first_factor_as_it_was_drawn() -> None:
    model = small(KIN["lora_fa"])
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_B" in name for name in trained)
    with pytest.raises(Ended, match="LoRA's B alone"):
        small(change(STRATEGY, method="ia3", rank=None, optimizer="lora_fa"))


def test_a_job_may_say_how_long_adalora_s_schedule_is() -> None:
    model = small(change(ADALORA, method_options={**ADALORA.method_options, "total_step": 40}))
    assert tuner_of(model).peft_config["default"].total_step == 40


def test_a_schedule_longer_than_the_run_is_a_bad_job() -> None:
    """It would end with ranks still to take away; one that ends before leaves them as they are."""
    tuner = tuner_of(small(ADALORA))
    with pytest.raises(Ended, match="has 13 steps, and the run has 12 steps; leave total_step out"):
        Ranks(tuner, total_steps=12, said_steps=13)
    with pytest.raises(Ended, match="the run has 1 step; use lora"):
        Ranks(tuner, total_steps=1)
    Ranks(tuner, total_steps=12, said_steps=9)
    assert tuner.peft_config["default"].total_step == 9

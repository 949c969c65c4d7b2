"""Bytes of optimizer states and of what a step takes: by hand, and as torch's own optimizers hold them."""

from __future__ import annotations

import msgspec
import pytest

from catalogs.bases.models import resolve_model
from planner.estimators.memory import estimate_vram
from planner.estimators.memory.held.optimizers import (
    GALORE_RANK,
    Matrix,
    matrices_of,
    require_optimizer,
    state_bytes,
    step_scratch_bytes,
)
from planner.estimators.memory.held.weights import trained_of
from planner.refusals import Unsupported
from remote.contract import Strategy

MODEL = resolve_model("smollm2-135m")
FULL = Strategy(method="full", micro_batch_size=1, seq_len=128, param_dtype="bfloat16", autocast="none")
LORA = Strategy(method="lora", rank=8, target_modules=("q_proj",), micro_batch_size=1, seq_len=128)
change = msgspec.structs.replace


def states(strategy: Strategy) -> int:
    return state_bytes(MODEL, strategy, trained_of(MODEL, strategy, task="causal_lm"))


def scratch(strategy: Strategy) -> int:
    return step_scratch_bytes(MODEL, strategy, trained_of(MODEL, strategy, task="causal_lm"))


def test_the_matrices_of_low_rank_adaptation_are_both_factors() -> None:
    (linear,) = [linear for linear in MODEL.linears if linear.matches("q_proj")]
    assert set(matrices_of(MODEL, LORA)) == {
        Matrix(8, linear.in_features, MODEL.num_layers),
        Matrix(linear.out_features, 8, MODEL.num_layers),
    }


def test_muon_keeps_one_moment_of_a_matrix_and_two_of_all_else() -> None:
    in_blocks = MODEL.num_layers * MODEL.linear_weights_per_block
    others = MODEL.num_params - in_blocks
    assert states(change(FULL, optimizer="muon")) == 2 * in_blocks + 4 * others


def test_a_step_in_backward_holds_and_copies_one_gradient_of_a_matrix_of_the_vocabulary_or_of_a_block() -> None:
    whole = change(FULL, optimizer="adamw_torch")
    assert scratch(whole) == 2 * MODEL.num_params
    for model in ("8b", "mistral-7b"):
        architecture = resolve_model(model)
        block, vocabulary = architecture.block_params, architecture.vocab_size * architecture.hidden_size
        early, late = (
            estimate_vram(architecture, change(whole, optimizer_in_backward=in_backward)).by_instant["optimizer_step"]
            for in_backward in (True, False)
        )
        kept = (1 + architecture.num_layers) * 2 * 128 * architecture.hidden_size  # what backward still needs
        spared = 2 * (2 * architecture.num_params - 2 * max(block, vocabulary))  # a gradient and its copy of each parameter
        assert late - early == pytest.approx(spared, abs=kept)


@pytest.mark.torch
def test_muon_holds_what_torch_holds() -> None:
    import torch

    shapes = [(each.rows, each.columns) for each in matrices_of(MODEL, LORA) for _ in range(each.times)]
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer = torch.optim.Muon(parameters)
    optimizer.step()
    held = sum(value.nbytes for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value))
    assert states(change(LORA, optimizer="muon")) == held


def test_muon_orthogonalizes_its_largest_matrix_in_bf16() -> None:
    widest = max(MODEL.linears, key=lambda linear: linear.num_weights)
    side = min(widest.in_features, widest.out_features)
    by_hand = widest.num_weights * (2 + 2 + 2) + 2 * side * side * 2  # update, iterate, its successor; two products
    assert scratch(change(FULL, optimizer="muon")) == by_hand


def test_galore_keeps_a_projector_and_two_moments_of_what_it_projects() -> None:
    in_blocks = MODEL.num_layers * sum(
        GALORE_RANK * (min(shape) + 2 * max(shape))
        for shape in ((linear.in_features, linear.out_features) for linear in MODEL.linears)
    )
    others = MODEL.num_params - MODEL.num_layers * MODEL.linear_weights_per_block
    assert states(change(FULL, optimizer="galore_adamw")) == 2 * in_blocks + 4 * others
    assert states(change(FULL, optimizer="galore_adamw")) < states(FULL)


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (change(LORA, optimizer="galore_adamw"), "projects gradients of whole weights, and lora trains none"),
        (change(LORA, method="ia3", rank=None, optimizer="muon"), "steps matrices"),
        (change(LORA, optimizer="shampoo"), "shampoo has no closed form"),
    ],
)
def test_an_optimizer_with_nothing_to_work_on_is_refused(strategy: Strategy, said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        require_optimizer(MODEL, strategy)

"""Bytes of optimizer states and of what a step takes: by hand, and as torch's own optimizers hold them."""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager
from typing import Any, Self

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
from planner.strategy.stack import Stack
from remote.contract import Dtype, Strategy

MODEL = resolve_model("smollm2-135m")
FULL = Strategy(method="full", micro_batch_size=1, seq_len=128, param_dtype="bfloat16", autocast="none")
LORA = Strategy(method="lora", rank=8, target_modules=("q_proj",), micro_batch_size=1, seq_len=128)
change = msgspec.structs.replace


class Made(AbstractContextManager["Made"]):
    """The most bytes that operations inside have made and not yet let go."""

    def __enter__(self) -> Self:
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode

        self.peak_bytes, alive = 0, dict[int, int]()

        class Watch(TorchDispatchMode):  # type: ignore[misc]  # torch says nothing of its types
            def __torch_dispatch__(_, function: Any, __: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: N805
                made = function(*args, **(kwargs or {}))
                inside = {tensor.untyped_storage()._cdata for tensor in args if torch.is_tensor(tensor)}
                storage = made.untyped_storage() if torch.is_tensor(made) else None
                if storage is not None and storage._cdata not in inside | alive.keys():
                    alive[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, alive.pop, storage._cdata)
                    self.peak_bytes = max(self.peak_bytes, sum(alive.values()))
                return made

        self.watch = Watch()
        self.watch.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self.watch.__exit__(*raised)


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


@pytest.mark.torch
@pytest.mark.parametrize(("dtype", "bytes_of_one"), [("bfloat16", 16), ("float32", 8)])
def test_adafactor_holds_and_takes_what_the_one_of_transformers_does(dtype: Dtype, bytes_of_one: int) -> None:
    """Rows and columns of a matrix from step to step; while it is stepped, copies in fp32, whatever stands beside it."""
    import torch
    from transformers.optimization import Adafactor

    model = change(FULL, optimizer="adafactor", param_dtype=dtype)
    vocabulary = (MODEL.vocab_size, MODEL.hidden_size)  # its largest matrix, tied
    parameter = torch.nn.Parameter(torch.empty(vocabulary, dtype=getattr(torch, dtype), device="meta"))
    parameter.grad = torch.empty_like(parameter)
    optimizer = Adafactor([parameter], lr=1e-3, scale_parameter=False, relative_step=False)
    optimizer.step()
    with Made() as made:
        optimizer.step()
    rows_and_columns = sum(optimizer.state[parameter][name].nbytes for name in ("exp_avg_sq_row", "exp_avg_sq_col"))
    assert rows_and_columns == 4 * sum(vocabulary)
    assert made.peak_bytes == pytest.approx(bytes_of_one * parameter.numel(), rel=0.001)
    assert scratch(model) == bytes_of_one * parameter.numel()
    shapes = [
        vocabulary,
        *((linear.out_features, linear.in_features) for linear in MODEL.linears for _ in range(MODEL.num_layers)),
    ]
    norms = MODEL.num_params - sum(rows * columns for rows, columns in shapes)
    assert states(model) == 4 * sum(map(sum, shapes)) + 4 * norms


def test_adafactor_steps_a_mixtures_experts_as_one_tensor_each() -> None:
    mixture = resolve_model("mixtral-8x7b")
    strategy = change(FULL, optimizer="adafactor")
    trained = trained_of(mixture, strategy, task="causal_lm")
    gate_and_up = mixture.num_experts * 2 * mixture.intermediate_size * mixture.hidden_size
    assert step_scratch_bytes(mixture, strategy, trained) == 16 * gate_and_up
    assert state_bytes(mixture, strategy, trained) < 0.01 * mixture.num_params


def test_transformers_trainer_keeps_an_embedding_in_32_bits_beside_an_8_bit_optimizer() -> None:
    """Of a tied one that is the output head's as well; our own trainer asks for nothing of the kind."""
    strategy = change(FULL, optimizer="adamw_8bit")
    trained = trained_of(MODEL, strategy, task="causal_lm")
    own, trainers = (state_bytes(MODEL, strategy, trained, Stack(name=name)) for name in ("transformers", "trl"))
    eight_bits = 2 + 2 * 4 / 256
    assert own == pytest.approx(eight_bits * MODEL.num_params)
    assert trainers - own == pytest.approx((8 - eight_bits) * MODEL.vocab_size * MODEL.hidden_size)


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

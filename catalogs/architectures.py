"""The numbers of a base model that formulas need, from a registry row, a size word, a `config.json` or a GGUF file."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Linear(msgspec.Struct, frozen=True, kw_only=True):
    """One `nn.Linear` (or GPT-2's Conv1D) of a block, under the module name that PEFT targets."""

    name: str
    in_features: int
    out_features: int
    bias: bool = False


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder or encoder stack of equal blocks, described once. Counts are exact; `config` is what they came from."""

    name: str  # as a person asked for it
    model_type: str  # transformers' model_type
    kind: Literal["decoder", "encoder", "encoder_decoder"]
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_positions: int
    tied_embeddings: bool
    linears: tuple[Linear, ...]  # of one block
    norm_params_per_block: int
    other_params: int  # embeddings of positions and types, final norm, pooler: all outside blocks and vocabulary
    gated_mlp: bool
    num_experts: int = 0  # 0 = dense
    experts_per_token: int = 0
    config: dict[str, Any]  # keys of a transformers config
    source: str

    @property
    def block_params(self) -> int:
        """Parameters of one block: its linears with biases, and its norms."""
        return self.norm_params_per_block + sum(
            linear.in_features * linear.out_features + linear.bias * linear.out_features for linear in self.linears
        )

    @property
    def num_params(self) -> int:
        """All parameters: embedding (once if tied), blocks, the rest."""
        vocabulary = self.vocab_size * self.hidden_size
        return vocabulary * (1 if self.tied_embeddings else 2) + self.num_layers * self.block_params + self.other_params

"""The numbers of a base model that formulas need, from a registry row, a size word, a `config.json` or a GGUF file."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Role = Literal[
    "query",
    "key",
    "value",
    "qkv",
    "output",
    "gate",
    "up",
    "gate_up",
    "down",
    "query_down",  # latent attention: into the narrow states, and out of them
    "kv_down",
    "kv_up",
    "outer",
    "mamba_in",
    "router",  # gives several tensors, so no adapter is hung on it
    "cross_query",  # from the decoder's state to the encoder's
    "cross_key",
    "cross_value",
    "cross_output",
]
Activation = Literal["silu", "gelu", "gelu_tanh", "gelu_new", "gelu_bloom", "relu"]
Norm = Literal["rms", "rms_fp32", "rms_t5", "layer"]
Layout = Literal["pre", "post", "sandwich", "after_sublayer", "parallel", "parallel_shared", "pre_cross"]
Mixer = Literal["heads", "latent", "mamba"]
Scores = Literal["wide", "narrow", "as_values", "sinks", "alibi", "alibi_wide", "alibi_summed", "disentangled", "summed"]
Routing = Literal["product", "wide_product", "softmax", "fp32", "stream"]
Experts = Literal["routed", "routed_clamped", "every"]
QkNorm = Literal["none", "head", "full"]


class Linear(msgspec.Struct, frozen=True, kw_only=True):
    """One `nn.Linear` (or GPT-2's Conv1D) of a block, under its module path within the block."""

    name: str  # "self_attn.q_proj"; PEFT's targets are suffixes of it
    in_features: int
    out_features: int
    bias: bool = False
    role: Role = "outer"
    kept: bool = False  # bitsandbytes leaves it as it is: transformers names it, or its class is no plain nn.Linear

    @property
    def num_weights(self) -> int:
        """Entries of the matrix, bias left out."""
        return self.in_features * self.out_features

    @property
    def num_params(self) -> int:
        """Entries of matrix and bias."""
        return self.num_weights + self.bias * self.out_features

    def matches(self, suffix: str) -> bool:
        """Whether a PEFT target names this module: the whole path, or its end after a dot."""
        return self.name == suffix or self.name.endswith("." + suffix)


class Mamba(msgspec.Struct, frozen=True, kw_only=True):
    """Widths of a Mamba 2 mixer."""

    inner: int
    heads: int
    groups: int
    state: int
    kernel: int  # positions that the convolution sees
    chunk: int  # positions that are computed at once

    @property
    def convolved(self) -> int:
        """Features that go through the convolution."""
        return self.inner + 2 * self.groups * self.state


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """A stack of equal blocks, described once, with what lies around it; further kinds of blocks stand in `also`.

    Counts are exact; `config` is what they came from.
    """

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
    embedding_size: int | None = None  # width of the vocabulary's matrices; None = the hidden size
    max_positions: int
    tied_embeddings: bool
    embedding_name: str = "embed_tokens"  # the module that words are looked up in
    head_name: str | None = "lm_head"  # that gives each word a score; None = in a task's head, which is counted apart
    linears: tuple[Linear, ...]  # of one block
    norm_params_per_block: int  # and of what else is neither linear nor expert
    scan_params_per_block: int = 0  # of those what is no norm: the convolution of a Mamba, and its steps
    biases_per_block: int = 0  # beside those of linears and norms
    outer_biases: int = 0  # of an output head
    outer_norms: int = 1
    norms_have_biases: bool = True  # of layer norms
    weightless_norms: bool = False  # whether some norms have no weights at all
    other_params: int  # embeddings of positions and types, final norm, pooler: all outside blocks and vocabulary
    gated_mlp: bool
    num_experts: int = 0  # 0 = dense
    experts_per_token: int = 0
    expert_params_per_block: int = 0  # routers and experts: fused parameters, no nn.Linear
    expert_linears: tuple[Linear, ...] = ()  # of one expert, where a release has them; counted in expert_params_per_block
    outer_linears: tuple[Linear, ...] = ()  # outside the blocks, counted in other_params: a pooler
    activation: Activation = "silu"
    norm: Norm = "rms"  # rms_fp32 = scaled by its weight in fp32 (Gemma, OLMo 2)
    layout: Layout = "pre"  # where the norms stand; parallel = attention and MLP side by side, of one norm if shared
    mamba: Mamba | None = None  # where the mixer is one
    mixer: Mixer = "heads"  # latent = keys and values by way of a narrow state (DeepSeek)
    scores: Scores = "wide"  # what attention does to its scores where they are written out; wide = softmax in fp32
    remote_code: bool = False  # transformers does not have it: its code comes with its weights
    own_linears: bool = False  # a class of its own, derived from nn.Linear
    transposed_linears: bool = False  # written as Conv1D
    flash_attention_2: bool = True  # whether transformers hands it to that library where it is asked to
    fused_attention: bool = True  # whether transformers can hand it to a fused kernel
    shared_kv_broadcast: bool = False  # one key head meets all query heads as a broadcast, which no fused kernel takes
    expanded_kv_for_flash: bool = False  # until transformers 4.48, for FlashAttention-2 alone
    expands_kv: bool = False  # keys and values are copied to all query heads before the kernel, whatever it could do
    caches_expanded: bool = False  # and that even before they are rotated and cached
    window: int | None = None  # how many positions back a token sees; None = all
    rotary_share: float = 1.0  # of each head that is rotated
    routing: Routing = (
        "product"  # the dtype that an expert's answer is weighted in: of the router's product, of its softmax, or of the stream
    )
    experts: Experts = "routed"  # every = each token goes through all of them, weighted
    experts_were_linears: bool = False  # lists of MLPs before transformers 5 fused them
    jitters_input: bool = False  # of experts and of their router, in training
    qk_norm: QkNorm = "none"
    rotary: bool = True
    joined_rotary: bool = False  # the rotated and the untouched part of a head are joined by a copy
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    narrows_inner: bool = False  # what comes into an MLP's last linear is cast to its weight's dtype
    dense_classifier: bool = False  # a task's head has a hidden layer of the base's width
    inner_dropout: float = 0.0  # between the activation of an MLP and its last linear
    relative_span: int = 0  # relative positions that scores are made with (DeBERTa); 0 = none
    position_bias: bool = False  # attention adds a learned bias to the scores of each head (T5)
    returns_weights: bool = False  # where attention is written out, a block hands its weights back beside the hidden state
    attention_softcap: bool = False
    logits_softcap: bool = False
    scaled_embeddings: bool = False
    normed_embeddings: bool = False  # a norm stands between them and the first block
    scaled_logits: bool = False
    scaled_residual: bool = False
    also: tuple[Architecture, ...] = ()  # blocks of the same stack that are built otherwise; each with its own num_layers
    also_first: bool = False  # whether those lie below this kind, nearest to the embedding; else kinds alternate
    above_last: tuple[int, ...] = ()  # of two kinds that alternate: how many blocks lie above the topmost of each; () = untold
    outlined: bool = False  # of its blocks nothing is known but how many there are: a trace alone can answer
    part_of: str | None = None  # model_type of the whole, where this is the language model of a base that also sees
    config: dict[str, Any]  # keys of a transformers config
    source: str

    def __hash__(self) -> int:
        """Equal architectures have equal hashes; `config`, which has none, is left to the comparison."""
        return hash((self.name, self.source, self.num_layers, self.hidden_size))

    @property
    def eager_only(self) -> bool:
        """Whether transformers writes its attention out and has no other: it refuses to load the model with sdpa."""
        return self.attention_softcap or not self.fused_attention

    @property
    def query_size(self) -> int:
        """Width of all query heads together; not always the hidden size."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key heads together (values alike)."""
        return self.num_kv_heads * self.head_dim

    @property
    def cached_size(self) -> int:
        """Width of the keys that a cache holds, of one position (values alike)."""
        return self.query_size if self.caches_expanded else self.kv_size

    @property
    def parts(self) -> tuple[Architecture, ...]:
        """Each kind of block once; together they are the stack."""
        return (self, *self.also)

    @property
    def depth(self) -> int:
        """Blocks of every kind."""
        if not self.also:  # of nearly all, and a plan asks five thousand times
            return self.num_layers
        return sum(part.num_layers for part in self.parts)

    def top_kinds(self, count: int) -> tuple[int, ...]:
        """How many of each kind are among so many top blocks, where the kinds don't alternate."""
        own = min(count, self.num_layers)
        return (own, *(min(part.num_layers, count - own) for part in self.also))

    @property
    def placed_linears(self) -> tuple[tuple[Linear, int], ...]:
        """Every linear that an adapter may be put on, with how often it occurs."""
        inside = ((linear, part.num_layers) for part in self.parts for linear in part.linears)
        of_experts = ((linear, part.num_layers * part.num_experts) for part in self.parts for linear in part.expert_linears)
        return (*inside, *of_experts, *((linear, 1) for linear in self.outer_linears))

    @property
    def linear_weights_per_block(self) -> int:
        """Weights of one block's linears: what 4-bit and 8-bit quantization replace."""
        return sum(linear.num_weights for linear in self.linears)

    @property
    def block_params(self) -> int:
        """Parameters of one block: its linears with biases, its norms, its experts."""
        return self.norm_params_per_block + self.expert_params_per_block + sum(linear.num_params for linear in self.linears)

    @property
    def vocabulary_size(self) -> int:
        """Entries of one vocabulary matrix, embedding or output head."""
        return self.vocab_size * (self.embedding_size or self.hidden_size)

    @property
    def vocabulary_params(self) -> int:
        """Embedding and output head: one matrix if tied."""
        return self.vocabulary_size * (1 if self.tied_embeddings else 2)

    @property
    def num_params(self) -> int:
        """All parameters: vocabulary, blocks, the rest. Encoders are counted without a language-model head."""
        blocks = sum(part.num_layers * part.block_params for part in self.parts)
        return self.vocabulary_params + blocks + self.other_params

    @property
    def active_params(self) -> int:
        """Parameters that one token meets: of a mixture, only the routed experts."""
        return round(self.num_params - sum(part.num_layers * part.idle_params_per_block for part in self.parts))

    @property
    def idle_params_per_block(self) -> float:
        """Parameters of one block's experts that a token does not meet."""
        if not self.num_experts:
            return 0.0
        return self.expert_params_per_block * (1 - self.experts_per_token / self.num_experts)

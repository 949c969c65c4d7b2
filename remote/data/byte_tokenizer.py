"""A tokenizer that needs no download: the 256 bytes and three special tokens. For random weights without one of their own."""

from __future__ import annotations

from typing import Any, Final

PAD: Final = "<|pad|>"
BOS: Final = "<|bos|>"
EOS: Final = "<|eos|>"


def num_byte_tokens(text: str) -> int:
    """How many tokens this tokenizer makes of a text, without its libraries."""
    for token in (PAD, BOS, EOS):
        text = text.replace(token, "-")
    return len(text.encode(errors="replace"))


def byte_tokenizer() -> Any:
    """A transformers tokenizer over bytes; text → ids → text is exact."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from remote.data.tokens import PLAIN_TEMPLATE

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (PAD, BOS, EOS)])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS)
    made.chat_template = PLAIN_TEMPLATE  # its own: what random weights read was marked by nobody
    return made

"""Answer one prompt with the model in this folder: python try.py "a question" [--system TEXT] [--base BASE]

BASE is a folder, a GGUF file or a hub id.

Needs torch, transformers and, for an adapter, peft (bitsandbytes where the base was quantized, gguf for a GGUF file).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def main(arguments: list[str] | None = None) -> int:
    how = json.loads((HERE / "rentune.json").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description="Answer one prompt with the model in this folder.")
    parser.add_argument("prompt")
    parser.add_argument("--system", metavar="TEXT", help="the system prompt, as the rows had it that were learned from")
    parser.add_argument("--base", default=how["base"], help=f"folder, GGUF file or hub id of the base (default: {how['base']})")
    if how.get("labels"):
        parser.add_argument("--pair", metavar="TEXT", help="the second text, where pairs were learned from")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--without-adapter", action="store_true", help="let the untouched base answer")
    asked = parser.parse_args(arguments)
    if how["base"] is None:
        asked.base = str(HERE)
    elif how.get("random_base") and asked.base == how["base"]:
        parser.error("the base was random weights, which were not kept: there is no model to ask; --base says where some lie")
    elif not Path(asked.base).exists() and not may_be_on_hub(asked.base):
        parser.error(
            f"no folder or file {asked.base} is here; --base takes one that is, or a hub id with its owner: OWNER/NAME"
        )
    hush()
    model, tokenizer = load(asked.base, how, with_adapter=not asked.without_adapter)
    if how.get("labels"):
        sys.stdout.write("".join(f"{name}  {chance:.1%}\n" for name, chance in classes(model, tokenizer, how, asked)))
        return 0
    sys.stdout.write(answer(model, tokenizer, asked.prompt, asked.max_tokens, system=asked.system) + "\n")
    return 0


def may_be_on_hub(base: str) -> bool:
    """Whether it can be a hub id: an owner and a name, and no path. Of a bare name the hub has one owner's old models only."""
    owner, slash, name = base.partition("/")
    return bool(slash and owner.strip(".~") and name) and "/" not in name and not name.endswith(".gguf")


def hush() -> None:
    """Leave the terminal to the answer: what libraries say to nobody in particular is left out, errors still speak."""
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)  # misses triton, which a CPU has no use for
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # likewise
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore", category=FutureWarning)


def load(base: str, how: dict[str, Any], *, with_adapter: bool) -> tuple[Any, Any]:
    """The base as it was in training, the adapter on top of it, and the tokenizer with its chat template."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        BitsAndBytesConfig,
    )

    device = "cuda" if torch.cuda.is_available() else "cpu"
    options: dict[str, Any] = {"dtype": getattr(torch, how["dtype"]), "device_map": {"": device}}
    if how["quant"] == "int8":
        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
    elif how["quant"] != "none":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type=how["quant"], bnb_4bit_use_double_quant=how["double_quant"]
        )
    if base == how["base"] and how.get("revision"):
        options["revision"] = how["revision"]
    tokenizer = AutoTokenizer.from_pretrained(HERE)
    maker = AutoModelForSeq2SeqLM if how.get("pairs") else AutoModelForCausalLM
    if how.get("labels"):
        maker = AutoModelForSequenceClassification
        options |= {"num_labels": len(how["labels"]), "pad_token_id": tokenizer.pad_token_id}
        if "quantization_config" in options:
            options["quantization_config"].llm_int8_skip_modules = how["heads"]
    place = Path(base)
    if place.suffix == ".gguf":  # transformers can't quantize on top of a GGUF file: its 16 bits are used as they are
        options.pop("quantization_config", None)
        model = maker.from_pretrained(place.parent, gguf_file=place.name, **options)
    else:
        model = None
        if how.get("packed_by") == "hqq":
            model = by_hqq(base, options.get("revision"), maker, options["dtype"], device)
        if model is None:
            model = maker.from_pretrained(base, **(as_trained(base, how, device, options.get("revision")) | options))
        for module in model.modules() if how.get("told") and device == "cpu" else ():
            vars(module).pop("dequantize_weight", None)  # which gptqmodel would compile first, for minutes
    if with_adapter:
        model = tuned(model, how)
    return model.eval(), tokenizer


def as_trained(base: str, how: dict[str, Any], device: str, revision: str | None) -> dict[str, Any]:
    """The configuration of a base that others packed, with what makes its kernels those of the training; else nothing."""
    from transformers import AutoConfig

    if not how.get("told"):
        return {}
    config = AutoConfig.from_pretrained(base, revision=revision)
    if getattr(config, "quantization_config", None) is not None:
        config.quantization_config = {**config.quantization_config, **how["told"][device]}
    return {"config": config}


def by_hqq(base: str, revision: str | None, maker: Any, dtype: Any, device: str) -> Any | None:
    """The base as hqq packed it; None where another lies there, as the one that it was made from."""
    from hqq_base import holds_hqq, load_hqq  # type: ignore[import-not-found]  # the file beside this one
    from huggingface_hub import snapshot_download

    folder = Path(base) if Path(base).exists() else Path(snapshot_download(base, revision=revision))
    return load_hqq(folder, maker, dtype=dtype, compute_dtype=dtype, device=device)[0] if holds_hqq(folder) else None


def tuned(model: Any, how: dict[str, Any]) -> Any:
    """`model` with what this folder holds put onto it or into it."""
    for folder in how["adapters"]:
        from peft import PeftModel

        # AdaLoRA's ranks, which peft 0.21 looks for as if they were LoRA's
        warnings.filterwarnings("ignore", message="The following rank_pattern keys did not match", category=RuntimeWarning)
        model = PeftModel.from_pretrained(model, str(HERE / folder))
    if how["inserted"] is not None:
        from bottleneck_adapters import insert  # type: ignore[import-not-found]  # the file beside this one

        insert(model, **how["inserted"])
    if how["parts"] is not None:
        from safetensors.torch import load_file

        parts = load_file(HERE / how["parts"], device=str(model.device))
        unknown = model.load_state_dict(parts, strict=False, assign=True).unexpected_keys
        if unknown:
            raise SystemExit(f"this is not the base that was trained: it has no {unknown[0]}")
    return model


def classes(model: Any, tokenizer: Any, how: dict[str, Any], asked: argparse.Namespace) -> list[tuple[str, float]]:
    """Each class and how likely the text, or the pair of texts, is of it; the likeliest first."""
    import torch

    inputs = tokenizer(asked.prompt, asked.pair, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        chances = torch.softmax(model(**inputs).logits[0].float(), dim=-1).tolist()
    return sorted(zip(how["labels"], chances, strict=True), key=lambda pair: -pair[1])


def answer(model: Any, tokenizer: Any, prompt: str, max_tokens: int, *, system: str | None = None) -> str:
    """The greedy answer to `prompt`, asked as a user would, after the system prompt where there is one."""
    import torch

    before = [] if system is None else [{"role": "system", "content": system}]
    messages = [*before, {"role": "user", "content": prompt}]
    if model.config.is_encoder_decoder:
        text = "\n\n".join(message["content"] for message in messages) + tokenizer.eos_token
    else:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        written = new_tokens(model, inputs, max_new_tokens=max_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    return str(tokenizer.decode(written[0], skip_special_tokens=True)).strip()


def new_tokens(model: Any, inputs: Mapping[str, Any], **options: Any) -> Any:
    """What `model` writes behind `inputs`, row by row.

    A learned prompt is put in front here: peft 0.21 hands it over by a name (`past_key_values`) that transformers 5.24 reads
    no longer while it writes, so its own `generate` would leave a prefix out and repeat a prompt at each token.
    """
    import torch

    ids = inputs["input_ids"]
    pair = model.config.is_encoder_decoder  # what it writes stands behind its own start alone
    peft_config = getattr(model, "active_peft_config", None)
    if peft_config is None or not peft_config.is_prompt_learning:
        return model.generate(**inputs, **options)[:, 1 if pair else ids.shape[1] :]
    if not model.has_active_enabled_adapter:
        return new_tokens(model.base_model, inputs, **options)
    learned, base = model.get_prompt(len(ids)), model.base_model
    if pair and not isinstance(learned, torch.Tensor):
        begun = ids.new_full((len(ids), peft_config.num_virtual_tokens + 1), model.config.decoder_start_token_id)
        return base.generate(**inputs, decoder_input_ids=begun, cache=learned, **options)[:, begun.shape[1] :]
    ahead = ids.new_zeros(len(ids), peft_config.num_virtual_tokens)
    mask = torch.cat((torch.ones_like(ahead), inputs["attention_mask"]), dim=1)
    if isinstance(learned, torch.Tensor):
        embedded = model.word_embeddings(ids)
        whole = torch.cat((learned.to(embedded.dtype), embedded), dim=1)
        return base.generate(inputs_embeds=whole, attention_mask=mask, **options)[:, 1 if pair else 0 :]
    ids = torch.cat((ahead, ids), dim=1)  # what the cache holds counts as read
    return base.generate(input_ids=ids, attention_mask=mask, cache=learned, **options)[:, ids.shape[1] :]


if __name__ == "__main__":
    sys.exit(main())

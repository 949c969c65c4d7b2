"""Answer one prompt with the model in this folder: python try.py "a question" [--base FOLDER | FILE.gguf | HUB ID]

Needs torch, transformers and, for an adapter, peft (bitsandbytes where the base was quantized, gguf for a GGUF file).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def main(arguments: list[str] | None = None) -> int:
    how = json.loads((HERE / "rentune.json").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description="Answer one prompt with the model in this folder.")
    parser.add_argument("prompt")
    parser.add_argument("--base", default=how["base"], help=f"folder, GGUF file or hub id of the base (default: {how['base']})")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--without-adapter", action="store_true", help="let the untouched base answer")
    asked = parser.parse_args(arguments)
    if how["base"] is None:
        asked.base = str(HERE)
    elif Path(asked.base).is_absolute() and not Path(asked.base).exists():
        parser.error(f"the base model is not at {asked.base}; say where it is with --base")
    model, tokenizer = load(asked.base, how, with_adapter=not asked.without_adapter)
    sys.stdout.write(answer(model, tokenizer, asked.prompt, asked.max_tokens) + "\n")
    return 0


def load(base: str, how: dict[str, Any], *, with_adapter: bool) -> tuple[Any, Any]:
    """The base as it was in training, the adapter on top of it, and the tokenizer with its chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

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
    place = Path(base)
    if place.suffix == ".gguf":  # transformers can't quantize on top of a GGUF file: its 16 bits are used as they are
        options.pop("quantization_config", None)
        model = AutoModelForCausalLM.from_pretrained(place.parent, gguf_file=place.name, **options)
    else:
        model = AutoModelForCausalLM.from_pretrained(base, **options)
    if how["base"] is not None and with_adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(HERE))
    return model.eval(), AutoTokenizer.from_pretrained(HERE)


def answer(model: Any, tokenizer: Any, prompt: str, max_tokens: int) -> str:
    """The greedy answer to `prompt`, asked as a user would."""
    import torch

    text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        written = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    return str(tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


if __name__ == "__main__":
    sys.exit(main())

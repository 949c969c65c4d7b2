"""What a practitioner would write for the same job by hand: load, LoRA, held-out loss before, on the way and after, save the
best, answer three prompts with base and tuned model, reload the adapter and compare logits. No plan, no box, no report.

    python -m benchmarks.training.bare_script MODEL_FOLDER TRAIN.jsonl HELD_OUT.jsonl OUTPUT --steps N

whole_run.py times it beside `rentune run`. The work is that of examples/demo/job.yaml: same rows, batches, rank, rate.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

SEED, BATCH_ROWS, RATE, WARMUP_SHARE, SAMPLES, SAMPLE_TOKENS = 7, 8, 1e-3, 0.03, 3, 40
IGNORED = -100
Example = tuple[list[int], list[int]]  # token ids, labels


def read_rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def encode(tokenizer: Any, row: dict[str, str]) -> Example:
    """Ids of the chat, and labels on the answer only."""
    asked = [{"role": "user", "content": row["prompt"]}]
    head = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(head, add_special_tokens=False).input_ids
    answer = tokenizer(row["response"] + tokenizer.eos_token + "\n", add_special_tokens=False).input_ids
    return ids + answer, [IGNORED] * len(ids) + answer


def collate(examples: list[Example], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(ids) for ids, _ in examples)
    ids = torch.tensor([row + [pad] * (width - len(row)) for row, _ in examples])
    labels = torch.tensor([row + [IGNORED] * (width - len(row)) for _, row in examples])
    return ids, labels


def held_out_loss(model: Any, examples: list[Example], pad: int) -> float:
    """Mean over rows of the row's mean loss."""
    model.eval()
    losses: list[float] = []
    ordered = sorted(examples, key=lambda example: len(example[0]))
    for at in range(0, len(ordered), BATCH_ROWS):
        ids, labels = collate(ordered[at : at + BATCH_ROWS], pad)
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        for row, targets in zip(logits, labels[:, 1:], strict=True):
            learned = targets != IGNORED
            losses.append(torch.nn.functional.cross_entropy(row[learned].float(), targets[learned]).item())
    model.train()
    return sum(losses) / len(losses)


def answers(model: Any, tokenizer: Any, rows: list[dict[str, str]]) -> list[str]:
    chats = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    texts = [tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) for chat in chats]
    tokens = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
    model.eval()
    with torch.no_grad():
        written = model.generate(**tokens, do_sample=False, max_new_tokens=SAMPLE_TOKENS, pad_token_id=tokenizer.pad_token_id)
    model.train()
    found: list[str] = tokenizer.batch_decode(written[:, tokens["input_ids"].shape[1] :], skip_special_tokens=True)
    return found


def train_one_step(model: Any, optimizer: Any, examples: list[Example], pad: int, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    ids, labels = collate(examples, pad)
    model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def rate_at(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    warmup = math.ceil(WARMUP_SHARE * steps)
    if step < warmup:
        return RATE * (step + 1) / warmup
    return RATE * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def main() -> None:
    """Do the job and print both losses and the samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "train", "held_out", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--steps", type=int, required=True)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)

    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    pad: int = tokenizer.pad_token_id
    train = [encode(tokenizer, row) for row in read_rows(asked.train)]
    rows = read_rows(asked.held_out)
    held_out = [encode(tokenizer, row) for row in rows]
    base = AutoModelForCausalLM.from_pretrained(asked.model, dtype=torch.float32)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0)

    with model.disable_adapter():
        before = answers(model, tokenizer, rows[:SAMPLES])
    losses = [held_out_loss(model, held_out, pad)]
    order = list(range(len(train)))
    random.Random(f"{SEED}/0").shuffle(order)
    for step in range(asked.steps):
        chosen = [train[index] for index in order[step * BATCH_ROWS : (step + 1) * BATCH_ROWS]]
        train_one_step(model, optimizer, chosen, pad, rate_at(step, asked.steps))
    losses.append(held_out_loss(model, held_out, pad))
    model.save_pretrained(asked.output)
    after = answers(model, tokenizer, rows[:SAMPLES])

    longest = sorted(train, key=lambda example: len(example[0]))[-2:]
    ids = collate([(tokens[:64], labels[:64]) for tokens, labels in longest], pad)[0]
    model.eval()
    with torch.no_grad():
        trained = model(input_ids=ids).logits
        reloaded = PeftModel.from_pretrained(model.unload(), asked.output).eval()(input_ids=ids).logits
    difference = float((trained - reloaded).abs().max())
    if difference > 1e-4:
        raise SystemExit(f"the reloaded adapter answers differently: {difference}")
    print(json.dumps({"losses": losses, "before": before, "after": after}))


if __name__ == "__main__":
    main()

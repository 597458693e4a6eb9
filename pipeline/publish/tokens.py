"""Token counts of published rows, split into the same parts as by the trainers."""

from collections.abc import Mapping
from typing import Any

from pipeline.engines.base import Message
from pipeline.publish.loss_mask import IGNORED, mask_turns


def token_lengths(tokenizer: Any, prompt: list[Message], completion: list[Message]) -> tuple[int, int]:
    """Return the tokens of prompt and completion as TRL splits them; loss falls on the completion.

    The completion starts where the templated prompt and the templated whole diverge.
    """
    template = tokenizer.apply_chat_template
    start = template(prompt, tokenize=True, return_dict=True, add_generation_prompt=True)["input_ids"]
    whole = template([*prompt, *completion], tokenize=True, return_dict=True)["input_ids"]
    pairs = enumerate(zip(start, whole, strict=False))
    common = next((i for i, (a, b) in pairs if a != b), min(len(start), len(whole)))
    return common, len(whole) - common


def joint_tokens(lengths: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Return counts by column from each reply's `token_lengths`; the prompt is what all share, as in TRL."""
    prompt = min(start for start, _ in lengths.values())
    replies = {f"tokens_{reply}": start + rest - prompt for reply, (start, rest) in lengths.items()}
    return {"tokens_prompt": prompt, **replies}


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Return a text's tokens as continued pretraining uses them: BOS (if there is one), text, EOS."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [*start, *tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def text_columns(tokenizer: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the token count of a row of kind cpt."""
    return {"tokens_text": len(text_ids(tokenizer, row["text"]))}


def turn_columns(tokenizer: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return token ids, labels and token counts of a row of kind turns."""
    ids, labels = mask_turns(tokenizer, row["turns"])
    loss = sum(label != IGNORED for label in labels)
    return {"input_ids": ids, "labels": labels, "tokens_context": len(ids) - loss, "tokens_loss": loss}

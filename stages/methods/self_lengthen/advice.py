"""What is said at the start of a run whose settings do not fit the lengths it asks for."""

from pipeline.config import Recipe
from stages.methods.self_lengthen.options import SelfLengthenOptions

TOKENS_PER_WORD = 4 / 3  # of English prose


def advice(recipe: Recipe, options: SelfLengthenOptions) -> list[str]:
    """Return a line about every limit that an article of `article_words` exceeds."""
    needed = round(options.article_words * TOKENS_PER_WORD)
    limits = {"sampling.max_tokens": recipe.sampling.max_tokens, "train.max_length": recipe.train.max_length}
    if recipe.evaluate.max_tokens is not None:
        limits["evaluate.max_tokens"] = recipe.evaluate.max_tokens
    short = [f"{name} is {value:,}" for name, value in limits.items() if value < needed]
    if not short:
        return []
    return [
        f"method.article_words asks for texts of more than {options.article_words:,} words, about {needed:,} "
        f"tokens, but {' and '.join(short)}: longer texts are cut off and tried again, up to "
        f"{options.draft_tries} times, or too long to train on. Raise the limits (engine.args.max_model_len "
        "has to hold a draft and its extension), or lower method.article_words."
    ]

"""Chat templates and thoughts: one rendering of conversations for engine, token counts, training, evaluation.

`settle` decides once per run how a model's conversations become text (a `Chat`); the rest reads it.
"""

from pipeline.chat.format import PLAIN, UNFINISHED, Chat

__all__ = ["PLAIN", "UNFINISHED", "Chat"]

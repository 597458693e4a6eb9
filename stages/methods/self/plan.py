"""What a row of `self` asks of the model (pipeline.protocols.Plans)."""

from typing import Any

from pipeline.protocols import Asks, Work

HALF = 0.5  # of max_tokens: what a text is taken to need


def work(options: Any, max_tokens: int, stage: str, round_: int | str) -> Work | None:
    """Return the work of one row in a stage; `max_tokens` is the recipe's limit of a completion."""
    o, s = options, options.sampling
    meta = not isinstance(round_, str) and round_ <= o.meta_rounds and stage != "improve"
    answer = HALF * (s.answer.max_tokens or max_tokens)
    feedback = HALF * (s.feedback.max_tokens or max_tokens)
    hinted = "self/annotate_feedback" if o.annotator else "self/hinted_feedback"
    criticize = Asks(hinted if meta else "self/feedback", max_tokens=s.feedback.max_tokens, before=answer)
    template = "self/annotate_refine" if meta else "self/refine"
    refine = Asks(template, 0, 1, max_tokens=s.refine.max_tokens, before=answer + feedback)
    if stage == "propose":
        shown = Asks("self/propose", max_tokens=s.propose.max_tokens, before=30 * o.new_questions.shown)
        return Work((shown,), 0, o.new_questions.wanted)
    if stage == "generate":
        return Work((Asks(n=o.samples, max_tokens=s.answer.max_tokens),), o.samples, o.samples)
    if stage == "critique":
        check = () if meta else (criticize._replace(least=0),)  # in phase 2 the model judges what it refined
        return Work((criticize, refine, *check))
    if stage == "publish":  # of a meta-skill row, feedback and refinement are examples too
        return Work((), 0, 3 if meta or o.keep_feedback else 1)
    return Work((criticize, refine)) if stage == "improve" else None

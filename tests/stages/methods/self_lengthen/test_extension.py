"""Two-stage extension on fakes (Self-Lengthen 1.7 and 1.15)."""

from itertools import count

import pytest

from pipeline.engines.base import Completion
from pipeline.errors import EngineError
from stages.methods.self_lengthen.extension import Extension, Rules, extend
from stages.methods.self_lengthen.lengths import words
from stages.methods.self_lengthen.long_texts import first_half, paragraphs

RULES = Rules(micro_iterations=3, attempts=4, growth=1.2)
DRAFT = "\n\n".join(" ".join(f"w{i}{j}" for j in range(7)) + "." for i in range(4))


def say(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(text, finish_reason, 1, 1)


class Doubling:
    """An extender that returns twice the words it was given, all new, in paragraphs of seven.

    `calls` is what it was asked.
    """

    def __init__(self) -> None:
        self.new, self.calls = count(), []

    def text(self, n: int) -> str:
        fresh = [f"x{next(self.new)}" for _ in range(n)]
        return "\n\n".join(" ".join(fresh[i : i + 7]) + "." for i in range(0, n, 7))

    async def __call__(self, text: str, beginning: str, number: int) -> Completion:
        self.calls.append((text, beginning, number))
        return say(self.text(2 * words(text) - words(beginning)))


async def test_a_doubling_extender_grows_the_text_with_every_step() -> None:
    fake = Doubling()
    found = await extend(fake, "Write.", DRAFT, RULES)
    assert found.problem is None and found.attempts == 1
    assert words(found.text) == 8 * words(DRAFT), "three steps, each twice the last"
    seen = [words(text) for text, beginning, _ in fake.calls if beginning]
    assert seen == sorted(seen) and seen[0] == words(DRAFT), "each step begins with the best so far"
    assert [number for _, _, number in fake.calls] == [0, 0, 1, 1, 2, 2]


async def test_the_second_stage_goes_on_from_two_thirds_of_the_expanded_half() -> None:
    fake = Doubling()
    await extend(fake, "Write.", DRAFT, Rules(1, 1, 1.2))
    (half, nothing, _), (whole, beginning, _) = fake.calls
    assert half == first_half(DRAFT) and nothing == "" and whole == DRAFT
    assert len(paragraphs(beginning)) == 2, "of the four paragraphs that two became"


async def test_a_repeating_extender_never_gets_through() -> None:
    async def repeats(text: str, beginning: str, number: int) -> Completion:
        return say("The wind was cold and the night was long and nobody came. " * 20)

    found = await extend(repeats, "Write.", DRAFT, RULES)
    assert found.problem[0] == "repetition" and found.attempts == 4 and found.text == DRAFT


async def test_one_that_copies_is_not_longer() -> None:
    async def copies(text: str, beginning: str, number: int) -> Completion:
        return say(text if not beginning else "\n\n".join(paragraphs(text)[len(paragraphs(beginning)) :]))

    found = await extend(copies, "Write.", DRAFT, RULES)
    assert found == Extension(DRAFT, 4, found.problem) and found.problem[0] == "not_longer"


async def test_a_little_longer_is_not_enough() -> None:
    """1.2 times the words is not more than 1.2 times."""
    draft = "\n\n".join(f"a{i} b{i} c{i} d{i} e{i}." for i in range(4))

    async def grows_a_fifth(text: str, beginning: str, number: int) -> Completion:
        return say(
            "one two three four five." if not beginning else " ".join(f"y{i}" for i in range(19)) + "."
        )

    assert (await extend(grows_a_fifth, "Write.", draft, Rules(1, 2, 1.2))).problem[0] == "not_longer"
    assert (await extend(grows_a_fifth, "Write.", draft, Rules(1, 2, 1.19))).problem is None


async def test_what_was_cut_off_is_not_taken_and_a_later_attempt_may_succeed() -> None:
    fake = Doubling()

    async def cut_at_first(text: str, beginning: str, number: int) -> Completion:
        found = await fake(text, beginning, number)
        return say(found.text, "length") if beginning and number < 3 else found

    found = await extend(cut_at_first, "Write.", DRAFT, RULES)
    assert found.problem is None and found.attempts == 2
    numbers = [number for _, _, number in fake.calls]
    assert numbers == sorted(numbers) and len(set(numbers)) == 6, "no sample is asked for twice"


async def test_a_blank_reply_says_which_stage_it_was() -> None:
    async def silent(text: str, beginning: str, number: int) -> Completion:
        return say("A beginning." if not beginning and text else " ")

    async def mute(text: str, beginning: str, number: int) -> Completion:
        return say("")

    assert (await extend(silent, "Write.", DRAFT, RULES)).problem[0] == "no_ending"
    assert (await extend(mute, "Write.", DRAFT, RULES)).problem[0] == "no_beginning"


async def test_a_step_that_became_too_long_for_the_model_does_not_take_the_earlier_ones_along() -> None:
    """1.14.1 again: the texts that grew most must not be the ones that are lost."""
    fake = Doubling()

    async def short_model(text: str, beginning: str, number: int) -> Completion:
        if words(text) > 2 * words(DRAFT):
            raise EngineError("longer than max_model_len")
        return await fake(text, beginning, number)

    found = await extend(short_model, "Write.", DRAFT, RULES)
    assert found.problem is None and words(found.text) == 4 * words(DRAFT)
    with pytest.raises(EngineError, match="busy"):
        await extend(busy, "Write.", DRAFT, RULES)


async def busy(text: str, beginning: str, number: int) -> Completion:
    raise EngineError("busy", retryable=True)

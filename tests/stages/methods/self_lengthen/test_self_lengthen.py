"""Self-Lengthen: its row functions with a scripted model; the faults of the released code (1.14)."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load_recipe
from pipeline.engines.base import Completion, Request, Sampling
from pipeline.errors import ConfigError, EngineDied, EngineError
from pipeline.rows import Dropped, Kept, Row
from pipeline.runner.llm import LLM
from stages.methods.self_lengthen.instructions import near_duplicates
from stages.methods.self_lengthen.lengths import Demand, words
from stages.methods.self_lengthen.long_texts import problem
from stages.methods.self_lengthen.method import SelfLengthen
from tests.conftest import tiny_recipe
from tests.stages.methods.self_lengthen.answers import text, writes

Script = Callable[[Request], str | Completion]
SEED = Row(
    "seed",
    {"task_id": "seed", "question": "Tell a story about a lighthouse and its last keeper.", "answer": None},
)


def method(**options: Any) -> SelfLengthen:
    small = {
        "name": "self_lengthen",
        "instructions": 3,
        "instruction_tries": 3,
        "draft_tries": 3,
        "attempts": 2,
        "demand_unit": 50,
    }
    return SelfLengthen(tiny_recipe(method={**small, **options}))


def model(script: Script, asked: list[Request] | None = None) -> LLM:
    async def send(request: Request) -> list[Completion]:
        if asked is not None:
            asked.append(request)
        said = script(request)
        return [said if isinstance(said, Completion) else Completion(said, "stop", 1, len(said.split()))]

    return LLM(send, "seed", "m@1", Sampling(max_tokens=99), 1)


def plain(request: Request) -> str:
    return writes(request, 0)


async def made(row: Any) -> list[Row]:
    found = await row
    assert isinstance(found, Kept), found
    return found.rows


def step(m: SelfLengthen, stage: str, name: str, rows: list[Row]) -> dict[str, str | None]:
    return {row.id: why and why.reason for row, why in m.stages()[stage].steps[name](lambda: iter(rows))}


async def test_instructions_are_written_after_the_seed_and_those_before() -> None:
    asked: list[Request] = []
    rows = await made(method().generate(SEED, model(plain, asked)))
    written = [r for r in asked if r.step == "self_lengthen/instruct"]
    seed = SEED.payload["question"]
    assert written[0].prefill == f"1. {seed}\n2." and written[0].sampling.stop == ("\n",)
    assert any(r.prefill.endswith("\n3.") for r in written), "two examples when there are two"
    known = {seed, *(row.payload["question"] for row in rows)}
    for request in written:
        examples = [line[3:] for line in request.prefill.splitlines()[:-1]]
        assert set(examples) <= known and len(set(examples)) == len(examples)
    judged = {r.messages[-1]["content"].split("\n")[1] for r in asked if r.step == "self_lengthen/judge"}
    accepted = {
        row.payload["question"]
        for row in rows
        if not (row.payload["problem"] or ("",))[0].startswith("instruction")
    }
    assert accepted <= judged and not any("500-word" in text for text in judged)
    assert len({(r.step, json.dumps(r.messages), r.prefill, r.sample_index) for r in asked}) == len(asked), (
        "no sample is asked for twice"
    )


async def test_every_slot_is_a_row_with_what_became_of_it() -> None:
    def refuses(request: Request) -> str:
        return "No." if request.step.endswith("judge") else plain(request)

    rows = await made(method().generate(SEED, model(refuses)))
    assert len(rows) == 3 and {row.payload["problem"][0] for row in rows} <= {
        "instruction_unsuited",
        "instruction_asks_length",
        "instruction_known",
    }
    assert set(step(method(), "generate", "accepted", rows).values()) == {
        row.payload["problem"][0] for row in rows
    }
    assert all(row.payload["draft_words"] for row in rows) and len({row.id for row in rows}) == 3


def test_limits_too_small_for_the_texts_asked_for_are_told_in_one_line() -> None:
    [line] = SelfLengthen(tiny_recipe(method={"name": "self_lengthen"})).advice([])
    for said in ("2,000 words", "2,667", "sampling.max_tokens is 512", "train.max_length is", "20 times"):
        assert said in line
    roomy = {"sampling": {"max_tokens": 2700}, "train": {"max_length": 6000}}
    assert not SelfLengthen(tiny_recipe(method={"name": "self_lengthen"}, **roomy)).advice([])
    assert not SelfLengthen(load_recipe("jobs/recipes/self_lengthen.yaml")).advice([])


async def test_thoughts_are_neither_judged_nor_counted_nor_learnt() -> None:
    """A short reply that was cut off within a thought is asked for again, with the room of a text."""
    asked: list[Request] = []

    def thinks(request: Request) -> str | Completion:
        if request.sampling.max_tokens < 99 and not request.prefill:
            return Completion("<think>\nHm", "length", 1, request.sampling.max_tokens)
        said = plain(request)
        return said if request.prefill else f"<think>\nNo. Or about words and words.\n</think>\n\n{said}"

    m = method()
    rows = await made(m.generate(SEED, model(thinks, asked)))
    drafted = [row for row in rows if row.payload["problem"] is None]
    assert drafted and all(words(row.payload["text"]) == row.payload["draft_words"] for row in drafted)
    judged = [r.sampling.max_tokens for r in asked if r.step.endswith("judge")]
    assert judged[:2] == [8, 99] and judged.count(8) == judged.count(99)
    for row in drafted[:1]:
        for extended in await made(m.extend(row, model(thinks, asked))):
            [learnt, _] = m.examples(extended)
            texts = [extended.payload["text"], extended.payload["draft"], learnt.completion[0]["content"]]
            assert not any("think" in text or "Or about" in text for text in texts)
    assert not any("Or about" in message["content"] for r in asked for message in r.messages)


async def test_drafts_are_tried_until_one_passes_and_the_best_reason_is_kept() -> None:
    tried = Counter()

    def writes_at_last(request: Request) -> str | Completion:
        if not request.step.endswith("write"):
            return plain(request)
        tried[request.messages[-1]["content"]] += 1
        cut = Completion("The sea is", "length", 1, 3)
        return cut if request.sample_index % 3 < 2 else text(random.Random(0), 12)

    rows = await made(method(drafts=2).generate(SEED, model(writes_at_last)))
    good = [row for row in rows if row.payload["problem"] is None]
    assert (
        good
        and set(tried.values()) == {6}
        and all(words(row.payload["text"]) == row.payload["draft_words"] == 12 for row in good)
    )
    assert Counter(row.payload["instruction_id"] for row in good).most_common(1)[0][1] == 2
    never = await made(
        method().generate(
            SEED,
            model(
                lambda r: Completion("The sea is", "length", 1, 3) if r.step.endswith("write") else plain(r)
            ),
        )
    )
    assert "truncated" in {row.payload["problem"][0] for row in never}


async def test_the_same_rows_with_the_same_ids_whatever_comes_first() -> None:
    async def slow(request: Request) -> list[Completion]:
        await asyncio.sleep(random.random() / 200)
        said = plain(request)
        return [Completion(said, "stop", 1, len(said.split()))]

    both = [
        await made(method().generate(SEED, llm))
        for llm in (model(plain), LLM(slow, "seed", "m@1", Sampling(max_tokens=99), 1))
    ]
    assert both[0] == both[1]
    other = LLM(model(plain)._send, "seed", "m@1", Sampling(max_tokens=99), 2)
    assert not {r.id for r in both[0]} & {r.id for r in await made(method().generate(SEED, other))}, (
        "the next round's rows are others"
    )


def draft_row(n: int = 24) -> Row:
    draft = text(random.Random(3), n)
    return Row(
        "draft",
        {
            "task_id": "seed",
            "seed": "s",
            "question": "Write on kites.",
            "text": draft,
            "draft_words": words(draft),
            "instruction_id": "i",
            "problem": None,
        },
    )


async def test_extensions_are_asked_for_with_a_beginning_and_failures_are_dropped_by_name() -> None:
    asked: list[Request] = []
    m = method(extensions=12, attempts=1, micro_iterations=1)
    rows = await made(m.extend(draft_row(), model(plain, asked)))
    assert len(rows) == 12 and {bool(r.prefill) for r in asked} == {True, False}
    assert len({(json.dumps(r.messages), r.prefill, r.sample_index) for r in asked}) == len(asked)
    outcomes = [await m.accept(row, model(plain)) for row in rows]
    kept = [o.rows[0] for o in outcomes if isinstance(o, Kept)]
    assert kept and all(
        r.payload["words"] == words(r.payload["text"]) > 1.2 * 24 and problem(r.payload["text"]) is None
        for r in kept
    )
    dropped = [o for o in outcomes if isinstance(o, Dropped)]
    assert dropped and {o.reason for o in dropped} <= {"repetition", "not_longer"}


async def test_faults_1_and_2_one_refused_extension_is_one_and_none_stops_the_others() -> None:
    def refuses(request: Request) -> str:
        if request.prefill and request.sample_index < 3:
            raise EngineError("too long")
        return plain(request)

    m = method(extensions=2, attempts=1)
    first, second = await made(m.extend(draft_row(), model(refuses)))
    assert first.payload["problem"] == ("request_refused", "too long") and second.payload["problem"] is None
    with pytest.raises(
        EngineError, match="every extension of the draft was refused, the first with: too long"
    ):
        await method(extensions=1, attempts=1).extend(draft_row(), model(refuses))

    def dies(request: Request) -> str:
        raise EngineDied("gone")

    with pytest.raises(EngineDied):
        await m.extend(draft_row(), model(dies))


async def extension(i: int, **changes: Any) -> Row:
    longer = text(random.Random(i), 60 + i % 90)
    return Row(
        f"e{i}",
        {
            **draft_row().payload,
            "draft": draft_row().payload["text"],
            "text": longer,
            "words": words(longer),
            **changes,
        },
    )


async def test_faults_3_and_4_an_instruction_asks_for_a_length_that_its_text_has() -> None:
    m, worded = method(demand_share=0.7, demand_tries=1), Counter()
    for i in range(150):
        [row] = await made(m.ask_for_length(await extension(i), model(plain)))
        worded[row.payload["wording"]] += 1
        if row.payload["demand"] is None:
            assert row.payload["asked"] == "Write on kites."
            continue
        demand = Demand.parse(row.payload["demand"])
        assert demand.score(row.payload["words"]) == 1
        assert all(str(n) in row.payload["asked"] for n in demand.numbers) and "kites" in row.payload["asked"]
        assert m.examples(row)[0].prompt[-1]["content"] == row.payload["asked"]
    assert worded[""] == pytest.approx(45, abs=16) and worded["model"] > 20 and worded["template"] > 20
    assert "at most" in " ".join(
        [
            (await made(m.ask_for_length(await extension(i), model(plain))))[0].payload["asked"]
            for i in range(40)
        ]
    )


async def test_a_row_teaches_both_roles() -> None:
    m = method(demand_share=0)
    [row] = await made(m.ask_for_length(await extension(0), model(plain)))
    writer, extender = m.examples(row)
    assert writer.prompt[-1]["content"] == "Write on kites." and writer.completion == extender.completion == [
        {"role": "assistant", "content": row.payload["text"]}
    ]
    asked: list[Request] = []
    await m.extend(draft_row(), model(plain, asked))
    frame, outline = extender.prompt[-1]["content"], row.payload["draft"]
    shown = frame.split("Outline:\n", 1)[1].split("\n\nExpand", 1)[0]
    assert frame.replace(shown, "") == next(r for r in asked if r.prefill).messages[-1]["content"].replace(
        outline, ""
    ), "fault 8: asked as it will be asked"
    assert set(shown.split("\n\n")) <= set(outline.split("\n\n")) and m.examples(row) == m.examples(row)
    assert [e.prompt[-1]["content"] for e in m.examples(Row("d", {"question": "Q?", "text": "A."}))] == [
        "Q?"
    ], "a demonstration teaches to write alone"


async def test_the_control_learns_the_draft_for_the_same_bare_instruction() -> None:
    m = method(demand_share=1, demand_tries=0, arm="drafts")
    [row] = await made(m.ask_for_length(await extension(0), model(plain)))
    [example] = m.examples(row)
    assert example.prompt[-1]["content"] == "Write on kites." != row.payload["asked"], (
        "the length that is asked for is the extension's"
    )
    assert example.completion[0]["content"] == row.payload["draft"] and example.role == "generator"
    twin = await extension(1)
    assert m.dedup_text(row) == m.dedup_text(twin), "a draft is learnt once, however often it was extended"
    assert method().dedup_text(row) != method().dedup_text(twin)
    assert m.examples(Row("d", {"question": "Q?", "text": "A."})) == method().examples(
        Row("d", {"question": "Q?", "text": "A."})
    )


def test_arms_differ_in_nothing_before_publishing() -> None:
    """They share the stages, and a run of an older version is resumed."""
    ours, control = method(), method(arm="drafts")
    for name, stage in ours.stages().items():
        assert stage.config == control.stages()[name].config and "arm" not in stage.config
    assert "arm" not in ours.options.fingerprint() and control.options.fingerprint()["arm"] == "drafts"
    assert ours.work("publish", 1).most == 2 and control.work("publish", 1).most == 1


async def test_a_long_text_is_preferred_to_its_draft() -> None:
    m = method(demand_share=0.5, demand_tries=1)
    rows = [(await made(m.ask_for_length(await extension(i), model(plain))))[0] for i in range(10)]
    pairs = list(m.pairs(rows, []))
    assert len(pairs) == 10
    for row, pair in zip(rows, pairs, strict=True):
        assert pair.prompt == m.examples(row)[0].prompt, (
            "asked as training asks, with the length if there is one"
        )
        chosen, rejected = pair.chosen[0]["content"], pair.rejected[0]["content"]
        assert (chosen, rejected) == (row.payload["text"], row.payload["draft"])
        assert words(chosen) > words(rejected) and pair.rejected_row.id == row.id
        assert not pair.rejected_row.payload["verdict"]["correct"]


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="longer and shorter texts, but no wrong ones"):
        tiny_recipe(method={"name": "self_lengthen"}, train={"kind": "kto"})
    with pytest.raises(ConfigError, match="drafts, which pairs reject"):
        tiny_recipe(method={"name": "self_lengthen", "arm": "drafts"}, train={"kind": "sft_then_dpo"})
    with pytest.raises(ConfigError, match="did you mean 'micro_iterations'"):
        tiny_recipe(method={"name": "self_lengthen", "micro_iteration": 4})


def test_the_recipe_that_ships_and_its_prompts() -> None:
    recipe = load_recipe("jobs/recipes/self_lengthen.yaml")
    rows = [json.loads(line) for line in Path(recipe.evaluate.sets["prompts"].path).read_text().splitlines()]
    assert Counter(Demand.parse(r["answer"]).kind for r in rows) == {
        "about": 7,
        "range": 6,
        "above": 6,
        "below": 5,
    }
    for r in rows:
        assert all(str(n) in r["question"] for n in Demand.parse(r["answer"]).numbers)
    seeds = [json.loads(line)["instruction"] for line in Path(recipe.tasks.path).read_text().splitlines()]
    assert len(set(seeds)) == 44 and recipe.accumulate.policy == "all"


def test_held_out_instructions_of_the_evidence_recipe_say_no_length_and_are_no_seeds() -> None:
    recipe = load_recipe("jobs/recipes/evidence/self_lengthen.yaml")
    paths = (recipe.held_out.source.path, recipe.tasks.path)
    held_out, seeds = ([json.loads(line) for line in Path(path).read_text().splitlines()] for path in paths)
    asked = [row["instruction"] for row in held_out]
    assert len(asked) == 60 and {Demand.parse(row["wanted"]) for row in held_out} == {Demand("above", (400,))}
    assert not any(char.isdigit() for text in asked for char in text)
    texts = {(0, row["instruction"]): row["instruction"] for row in seeds}
    texts |= {(1, text): text for text in asked}
    assert len(texts) == len(seeds) + 60 and not near_duplicates(texts, 0.4)
    assert recipe.method["demand_share"] == 0 and recipe.questions_per_round <= len(seeds)


def test_adapters_need_a_method_with_roles_and_lora() -> None:
    with pytest.raises(ConfigError, match="direct has roles: none"):
        tiny_recipe(train={"adapters": True, "lora": {}})
    with pytest.raises(ConfigError, match=r"needs train\.lora"):
        tiny_recipe(train={"adapters": True}, method={"name": "self_lengthen"})

"""Self-Lengthen: a model that learns to write longer from texts that it extended itself (Quan et al. 2024, arXiv 2410.23933).

    seed --instruct, judge--> instruction --write--> draft --extend--> longer text --ask for its length--> training pairs

A round is one macro-iteration: the generator's drafts are extended by the extender, both learn from what came of it, and the next
round begins with longer drafts. The generator learns to write the long text at once (instruction -> text), the extender to reach in
one call what took several (instruction and draft -> text). One model plays both roles and learns both kinds of pairs; with
train.adapters each role has a LoRA adapter of its own, and the model without them writes the instructions and judges them.

Each of the four stages asks for one thing. generate: new instructions and their drafts. critique: the extensions. filter: those that
grew, the long ones rather than the short ones. verify: the length that a part of the instructions asks for. What failed on the way
is a row too, until a later step drops it under the name of what was wrong with it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from pydantic import Field

from pipeline import prompts
from pipeline.engines.base import Completion, Message
from pipeline.errors import ConfigError, EngineError
from pipeline.ids import row_id, unit_interval
from pipeline.methods import Example, Method, Options, Stage
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.rundir import RunDir
from pipeline.runner.llm import LLM, together
from stages.methods.self_lengthen import instructions, length_evaluation, length_report
from stages.methods.self_lengthen.extension import Rules, extend
from stages.methods.self_lengthen.lengths import draw_demand, is_chinese, length_biased, states, words
from stages.methods.self_lengthen.long_texts import problem, thinned
from stages.steps.samples import answer_fields

VERSION = 1
INSTRUCT, JUDGE, WRITE, EXTEND = (
    f"self_lengthen/{step}" for step in ("instruct", "judge", "write", "extend")
)
ASK_FOR_LENGTH, WITH_LENGTH = "self_lengthen/ask_for_length", "self_lengthen/with_length"
GENERATOR, EXTENDER = "generator", "extender"
EXAMPLES = 2  # instructions that a new one is written after
Problem = tuple[str, str] | None  # reason and detail


class SelfLengthenOptions(Options):
    """Options of `self_lengthen`; the defaults are those of the released code, for texts of thousands of words."""

    name: Literal["self_lengthen"] = "self_lengthen"
    instructions: int = Field(4, ge=1, description="new instructions written after each seed and round")
    instruction_tries: int = Field(10, ge=1)
    instruction_tokens: int = Field(256, ge=8)
    article_words: int = Field(
        2000,
        ge=1,
        description="the judge is asked whether an instruction suits an article of more words than this",
    )
    similarity: float = Field(
        0.7,
        gt=0,
        le=1,
        description="instructions whose runs of three words overlap so much (Jaccard) count as one",
    )
    drafts: int = Field(2, ge=1, description="of each instruction")
    draft_tries: int = Field(20, ge=1, description="until one passes the rules")
    extensions: int = Field(2, ge=1, description="of each draft")
    attempts: int = Field(20, ge=1, description="for each extension")
    micro_iterations: int = Field(3, ge=1, description="extensions of the extension, in each attempt")
    growth: float = Field(
        1.2, ge=1, description="an extension has more than this many times the draft's words"
    )
    length_bias: list[Literal["drafts", "extensions"]] = Field(
        ["drafts", "extensions"], description="where short texts are dropped sooner than long ones"
    )
    noise: float = Field(
        0.2, ge=0, lt=1, description="share of a draft's lines that the extender learns to do without"
    )
    demand_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of the generator's instructions that ask for the length of their text",
    )
    demand_unit: int = Field(
        1000,
        ge=1,
        description="words that such lengths are rounded to, where the text then still has the length",
    )
    demand_tries: int = Field(
        3,
        ge=0,
        description="the model's, to put the length into an instruction; after them (0: at once) a sentence is put behind it",
    )


class SelfLengthen(Method):
    """One row per extension; what it was made from is in it."""

    name = "self_lengthen"
    Options = SelfLengthenOptions
    roles = (GENERATOR, EXTENDER)
    measured = "score (texts that pass the rules; where a length is asked for, length score)"

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        if recipe.evaluate.samples:
            raise ConfigError(
                "evaluate.samples: self_lengthen measures one text for each instruction; leave it out."
            )
        if recipe.train.kind != "sft":
            raise ConfigError(
                f"method self_lengthen makes no wrong answers to set beside the right ones: train.kind is {recipe.train.kind!r}, expected 'sft'."
            )

    def verified_by(self, round_: int) -> str:
        """Rules."""
        return f"rules for long texts, and more than {self.options.growth:g} times the words of the draft"

    def stages(self) -> dict[str, Stage]:
        """Instructions and drafts; extensions; those that grew; the lengths asked for."""
        o, seed = self.options, self.recipe.seed
        drafts = {"accepted": _accepted, "distinct": instructions.distinct(o.similarity)}
        drafts |= {"length_bias": length_biased("draft_words", seed)} if "drafts" in o.length_bias else {}
        longer = {"length_bias": length_biased("words", seed)} if "extensions" in o.length_bias else {}
        rest = {"extensions", "attempts", "micro_iterations", "growth", "noise"}
        length = {"demand_share", "demand_unit", "demand_tries"}
        return {
            "generate": Stage(
                self.generate,
                drafts,
                (INSTRUCT, JUDGE, WRITE),
                o.model_dump(mode="json", exclude=rest | length),
                VERSION,
            ),
            "critique": Stage(self.extend, {}, (EXTEND,), o.model_dump(include=rest - {"noise"}), VERSION),
            "filter": Stage(
                self.accept, longer, (), o.model_dump(mode="json", include={"growth", "length_bias"}), VERSION
            ),
            "verify": Stage(
                self.ask_for_length,
                {},
                (ASK_FOR_LENGTH, WITH_LENGTH),
                o.model_dump(include={*length, "instruction_tokens"}),
                VERSION,
            ),
        }

    async def generate(self, row: Row, llm: LLM) -> Outcome:
        """A seed in, the drafts of its new instructions out. An instruction that was not found, or a draft, says in `problem` why."""
        found = await self._instructions(row, llm)
        drafts = [
            self._draft(row, llm, slot, text, why, i)
            for slot, (text, why) in enumerate(found)
            for i in range(self.options.drafts if why is None else 1)
        ]
        return Kept(await together(drafts))

    async def _instructions(self, row: Row, llm: LLM) -> list[tuple[str, Problem]]:
        """Write instructions one after the other: each after two of the seed and those that were accepted before it."""
        o, known, found = self.options, [row.payload["question"]], []
        for slot in range(o.instructions):
            for number in range(slot * o.instruction_tries, (slot + 1) * o.instruction_tries):
                text, why = await self._instruction(row, llm, known, number)
                if why is None:
                    known.append(text)
                    break
            found.append((text, why))
        return found

    async def _instruction(self, row: Row, llm: LLM, known: list[str], number: int) -> tuple[str, Problem]:
        o = self.options
        examples = sorted(
            known,
            key=lambda text: unit_interval(self.recipe.seed, "examples", llm.round, row.id, number, text),
        )[:EXAMPLES]
        *turns, begun = prompts.render(INSTRUCT, examples=examples)
        sampling = llm.sampling.updated(max_tokens=o.instruction_tokens, stop=("\n",))
        written = (
            await llm.chat(
                turns, step=INSTRUCT, prefill=begun["content"], sampling=sampling, sample_index=number
            )
        )[0]
        text = written.text.strip()
        if why := instructions.problem(text, written.finish_reason, known, o.similarity):
            return text, why
        judge = llm.sampling.updated(temperature=0, top_p=1, top_k=0, max_tokens=8)
        reply = (
            await llm.ask(JUDGE, sampling=judge, sample_index=number, instruction=text, words=o.article_words)
        )[0].text
        return text, None if instructions.agreed(reply) else ("instruction_unsuited", reply)

    async def _draft(self, row: Row, llm: LLM, slot: int, instruction: str, why: Problem, sample: int) -> Row:
        """Write a draft, again and again until one passes; without an instruction there is none."""
        made = {"text": instruction, "finish_reason": "stop", "prompt_tokens": 0, "completion_tokens": 0}
        tries = self.options.draft_tries if why is None else 0
        for number in range(sample * tries, (sample + 1) * tries):
            written = (
                await llm.chat(self._write(instruction), step=WRITE, sample_index=number, role=GENERATOR)
            )[0]
            made, why = answer_fields(written), problem(written.text, instruction, written.finish_reason)
            if why is None:
                break
        return row.child(
            "generate",
            f"{llm.round}/{slot}/{sample}",
            seed=row.payload["question"],
            question=instruction,
            **made,
            problem=why,
            draft_words=words(made["text"]),
            instruction_id=row_id([row.id], "instruction", f"{llm.round}/{slot}"),
            model=llm.model,
            sampling=llm.sampling.as_json,
        )

    async def extend(self, row: Row, llm: LLM) -> Outcome:
        """A draft in, its extensions out, those that failed as well: filter drops them by what was wrong last."""
        found = await together([self._extension(row, llm, job) for job in range(self.options.extensions)])
        if all(r.payload["problem"] and r.payload["problem"][0] == "request_refused" for r in found):
            raise EngineError(
                f"every extension of the draft was refused, the first with: {found[0].payload['problem'][1]}"
            )
        return Kept(found)

    async def _extension(self, row: Row, llm: LLM, job: int) -> Row:
        o, draft, instruction = self.options, row.payload["text"], row.payload["question"]
        offset = job * o.attempts * o.micro_iterations  # every sample of a row has a number of its own

        async def ask(text: str, beginning: str, number: int) -> Completion:
            turns = self._extend(instruction, text)
            return (
                await llm.chat(
                    turns, step=EXTEND, prefill=beginning, sample_index=offset + number, role=EXTENDER
                )
            )[0]

        text, attempts, why = await extend(
            ask, instruction, draft, Rules(o.micro_iterations, o.attempts, o.growth)
        )
        return row.child(
            "critique",
            job,
            draft=draft,
            text=text,
            words=words(text),
            attempts=attempts,
            problem=why,
            model=llm.model,
            sampling=llm.sampling.as_json,
        )

    async def accept(self, row: Row, llm: LLM) -> Outcome:
        """Drop what did not become an extension, with the reason of its last step."""
        made = row.payload
        if made["problem"]:
            return Dropped(*made["problem"], made["text"])
        if made["words"] <= self.options.growth * made["draft_words"]:
            return Dropped("not_longer", f"{made['draft_words']} words became {made['words']}", made["text"])
        return Kept([row.child("filter", 0)])

    async def ask_for_length(self, row: Row, llm: LLM) -> Outcome:
        """Let a share of the instructions ask for a length that the text has: `asked` is what the generator will be asked."""
        o, made = self.options, row.payload
        asked, wording, demand = made["question"], "", None
        if unit_interval(self.recipe.seed, "demand", row.id) < o.demand_share:
            demand = draw_demand(made["words"], o.demand_unit, self.recipe.seed, row.id)
            variables = {
                "instruction": asked,
                "kind": demand.kind,
                "numbers": demand.numbers,
                "chinese": is_chinese(asked),
            }
            for number in range(o.demand_tries):
                sampling = llm.sampling.updated(max_tokens=o.instruction_tokens, stop=("\n",))
                reply = (await llm.ask(ASK_FOR_LENGTH, sampling=sampling, sample_index=number, **variables))[
                    0
                ]
                if (
                    reply.finish_reason == "stop"
                    and states(reply.text, demand, asked)
                    and instructions.keeps(asked, reply.text)
                ):
                    asked, wording = reply.text.strip(), "model"
                    break
            else:
                variant = int(3 * unit_interval(self.recipe.seed, "wording", row.id))
                asked, wording = (
                    prompts.render(WITH_LENGTH, wording=variant, **variables)[0]["content"],
                    "template",
                )
        verdict = {
            "correct": True,
            "extracted": f"{made['words']} words",
            "draft_words": made["draft_words"],
            "demand": str(demand) if demand else None,
        }
        return Kept(
            [
                row.child(
                    "verify",
                    0,
                    asked=asked,
                    wording=wording,
                    demand=str(demand) if demand else None,
                    verdict=verdict,
                )
            ]
        )

    def _write(self, instruction: str) -> list[Message]:
        return prompts.render(WRITE, instruction=instruction)

    def _extend(self, instruction: str, text: str) -> list[Message]:
        return prompts.render(EXTEND, instruction=instruction, text=text)

    def question(self, row: Row) -> list[Message]:
        """The bare instruction."""
        return self._write(row.payload["question"])

    def question_prompts(self) -> tuple[str, ...]:
        """What both roles are asked with, in evaluation and in what is published."""
        return WRITE, EXTEND

    def examples(self, row: Row) -> list[Example]:
        """The generator's pair and the extender's; of a real demonstration, which nobody extended, the first alone."""
        made = row.payload
        answer = [{"role": "assistant", "content": made["text"]}]
        pairs = [Example(self._write(made.get("asked", made["question"])), answer, role=GENERATOR)]
        if "draft" in made:
            draft = thinned(made["draft"], self.options.noise, self.recipe.seed, row.id)
            pairs.append(Example(self._extend(made["question"], draft), answer, role=EXTENDER))
        return pairs

    def learnt(self, row: Row) -> list[str]:
        """The text, and the draft that is in the extender's prompt."""
        return [row.payload[name] for name in ("text", "draft") if name in row.payload]

    def evaluation(self, name: str | None) -> Stage:
        """Write one text for each instruction and measure it."""
        return length_evaluation.stage(self.recipe, WRITE, name, GENERATOR)

    def measures(self, rows: Sequence[Row]) -> dict[str, list[float]]:
        """Words, repetition, rules and length scores of a set's texts, and of the control."""
        return length_evaluation.measures(rows)

    def report(self, run: RunDir) -> None:
        """Write lengths.txt and lengths.png: how long the texts of each macro-iteration are, and what every filter kept."""
        length_report.write(run)

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Say how many instructions ask for a length, and who worded it."""
        wordings = [row.payload["wording"] for row in rows]
        asking = len(wordings) - wordings.count("")
        return [
            f"Instructions that ask for the length of their text: {asking} of {len(wordings)}, {wordings.count('model')} in the model's words"
        ]


def _accepted(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
    """Drop the rows of instructions and drafts that were not accepted."""
    for row in rows():
        why = row.payload["problem"]
        yield row, Dropped(*why, row.payload["text"]) if why else None

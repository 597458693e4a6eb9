"""Self-Lengthen: a model learns to write longer from texts that it extended itself (Quan et al. 2024, arXiv
2410.23933).

    seed --instruct, judge--> instruction --write--> draft --extend--> longer text --> training pairs

A round is one macro-iteration: the extender extends the generator's drafts, both train on the results, and
the next round starts with longer drafts. The generator learns to write the long text at once (instruction ->
text), the extender to reach in one call what took several (instruction and draft -> text). One model plays
both roles and trains on both kinds of pairs; with train.adapters each role has a LoRA adapter of its own, and
the model without them writes and judges the instructions.

generate writes instructions and drafts, critique the extensions, filter keeps those that grew (long ones with
a higher probability), verify puts the length into part of the instructions. What failed on the way is a row
too, until a later step drops it with its reason.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pipeline import thoughts
from pipeline.chat import UNFINISHED
from pipeline.engines.base import Completion, Message, Sampling
from pipeline.errors import ConfigError, EngineError
from pipeline.ids import row_id, unit_interval
from pipeline.methods import Example, Method, Stage
from pipeline.protocols import Pair, Work
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.rundir import RoundKey, RunDir
from pipeline.runner.llm import LLM, together
from stages.methods.self_lengthen import advice, instructions, length_evaluation, length_report, plan
from stages.methods.self_lengthen.extension import Rules, extend
from stages.methods.self_lengthen.lengths import draw_demand, is_chinese, length_biased, states, words
from stages.methods.self_lengthen.long_texts import problem, spoken, thinned
from stages.methods.self_lengthen.options import SelfLengthenOptions
from stages.steps.samples import answer_fields

VERSION = 2
INSTRUCT, JUDGE, WRITE, EXTEND = (
    f"self_lengthen/{step}" for step in ("instruct", "judge", "write", "extend")
)
ASK_FOR_LENGTH, WITH_LENGTH = "self_lengthen/ask_for_length", "self_lengthen/with_length"
GENERATOR, EXTENDER = "generator", "extender"
EXAMPLES = 2  # instructions shown when a new one is written
Problem = tuple[str, str] | None  # reason and detail


class SelfLengthen(Method):
    """One row per extension, with everything it was made from."""

    name = "self_lengthen"
    Options = SelfLengthenOptions
    options: SelfLengthenOptions
    roles = (GENERATOR, EXTENDER)
    measured = "score (texts that pass the rules; where a length is asked for, length score)"
    question_prompts = (WRITE, EXTEND)  # evaluation and published data ask both roles

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        if recipe.filters.own:
            raise ConfigError("filters.own: method self_lengthen has rules of its own for texts; remove it.")
        if recipe.train.kind not in ("sft", "dpo", "sft_then_dpo"):
            raise ConfigError(
                "method self_lengthen has longer and shorter texts, but no wrong ones: train.kind is "
                f"{recipe.train.kind!r}, expected 'sft', 'dpo' or 'sft_then_dpo'."
            )
        if self.options.arm == "drafts" and recipe.train.kind != "sft":
            raise ConfigError(
                "method.arm: drafts learns the drafts, which pairs reject: set train.kind to 'sft'."
            )

    def stages(self) -> dict[str, Stage]:
        """Instructions and drafts; extensions; those that grew; the lengths to ask for."""
        o, seed = self.options, self.recipe.seed
        drafts = {"accepted": _accepted, "distinct": instructions.distinct(o.similarity)}
        if "drafts" in o.length_bias:
            drafts["length_bias"] = length_biased("draft_words", seed)
        longer = {"length_bias": length_biased("words", seed)} if "extensions" in o.length_bias else {}
        extending = {"extensions", "attempts", "micro_iterations", "growth"}
        asking = {"demand_share", "demand_unit", "demand_tries"}
        written = o.model_dump(mode="json", exclude={*extending, *asking, "noise", "arm"})
        extended, asked = (
            o.model_dump(include=extending),
            o.model_dump(include={*asking, "instruction_tokens"}),
        )
        grown = o.model_dump(mode="json", include={"growth", "length_bias"})
        return {
            "generate": Stage(self.generate, drafts, (INSTRUCT, JUDGE, WRITE), written, VERSION),
            "critique": Stage(self.extend, {}, (EXTEND,), extended, VERSION),
            "filter": Stage(self.accept, longer, (), grown, VERSION),
            "verify": Stage(self.ask_for_length, {}, (ASK_FOR_LENGTH, WITH_LENGTH), asked, VERSION),
        }

    def work(self, stage: str, round_: RoundKey) -> Work | None:
        """What a row of a stage asks of the model."""
        texts = 1 + self.recipe.evaluate.samples
        return plan.work(self.options, self.recipe.sampling.max_tokens, texts, stage, round_)

    async def generate(self, row: Row, llm: LLM) -> Outcome:
        """A seed in, the drafts of its new instructions out.

        `problem` says why an instruction or a draft is missing.
        """
        drafts = []
        for slot, (text, why) in enumerate(await self._instructions(row, llm)):
            samples = self.options.drafts if why is None else 1
            drafts += [self._draft(row, llm, slot, text, why, i) for i in range(samples)]
        return Kept(await together(drafts))

    async def _instructions(self, row: Row, llm: LLM) -> list[tuple[str, Problem]]:
        """Write instructions one after the other, each shown two of the seed and those accepted before it."""
        o, known, written = self.options, [row.payload["question"]], []
        for slot in range(o.instructions):
            text, why = "", None
            for number in range(slot * o.instruction_tries, (slot + 1) * o.instruction_tries):
                text, why = await self._instruction(row, llm, known, number)
                if why is None:
                    known.append(text)
                    break
            written.append((text, why))
        return written

    async def _instruction(self, row: Row, llm: LLM, known: list[str], number: int) -> tuple[str, Problem]:
        o, seed = self.options, self.recipe.seed
        shuffled = sorted(known, key=lambda t: unit_interval(seed, "examples", llm.round, row.id, number, t))
        *turns, begun = self.prompts.render(INSTRUCT, examples=shuffled[:EXAMPLES])
        sampling = llm.sampling.override(max_tokens=o.instruction_tokens, stop=("\n",))
        prefill = begun["content"]
        [written] = await llm.chat(
            turns, step=INSTRUCT, prefill=prefill, sampling=sampling, sample_index=number
        )
        text = thoughts.without(written.text)
        if why := instructions.problem(text, written.finish_reason, known, o.similarity):
            return text, why
        judge = llm.sampling.override(temperature=0, top_p=1, top_k=0, max_tokens=8)
        asked: dict[str, Any] = {"instruction": text, "words": o.article_words}
        reply = await _answer(llm, JUDGE, judge, number, **asked)
        return text, None if instructions.agreed(reply.text) else ("instruction_unsuited", reply.text)

    async def _draft(self, row: Row, llm: LLM, slot: int, instruction: str, why: Problem, sample: int) -> Row:
        """Write drafts until one passes the rules; without an instruction there is none."""
        made: dict[str, Any] = {
            "text": instruction,
            "finish_reason": "stop",
            "prompt_tokens": 0,
            "completion_tokens": 0,
        }
        tries = self.options.draft_tries if why is None else 0
        for number in range(sample * tries, (sample + 1) * tries):
            [written] = await llm.chat(
                self._write(instruction), step=WRITE, sample_index=number, role=GENERATOR
            )
            written = spoken(written)
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
        """A draft in, its extensions out, failed ones included: filter drops them with the last reason."""
        extended = await together([self._extension(row, llm, job) for job in range(self.options.extensions)])
        problems = [r.payload["problem"] for r in extended]
        if all(p and p[0] == "request_refused" for p in problems):
            raise EngineError(f"every extension of the draft was refused, the first with: {problems[0][1]}")
        return Kept(extended)

    async def _extension(self, row: Row, llm: LLM, job: int) -> Row:
        o, draft, instruction = self.options, row.payload["text"], row.payload["question"]
        offset = job * o.attempts * o.micro_iterations  # every sample of a row has its own number

        async def ask(text: str, beginning: str, number: int) -> Completion:
            turns, index = self._extend(instruction, text), offset + number
            [reply] = await llm.chat(turns, step=EXTEND, prefill=beginning, sample_index=index, role=EXTENDER)
            return spoken(reply)

        text, attempts, why = await extend(
            ask, instruction, draft, Rules(o.micro_iterations, o.attempts, o.growth)
        )
        made = {"draft": draft, "text": text, "words": words(text), "attempts": attempts, "problem": why}
        return row.child("critique", job, **made, model=llm.model, sampling=llm.sampling.as_json)

    async def accept(self, row: Row, llm: LLM) -> Outcome:
        """Drop what did not become an extension, with the reason of its last step."""
        made = row.payload
        if made["problem"]:
            reason, detail = made["problem"]
            return Dropped(reason, detail, made["text"])
        if made["words"] <= self.options.growth * made["draft_words"]:
            return Dropped("not_longer", f"{made['draft_words']} words became {made['words']}", made["text"])
        return Kept([row.child("filter", 0)])

    async def ask_for_length(self, row: Row, llm: LLM) -> Outcome:
        """Let a share of the instructions ask for a length that the text has; `asked` is what training will
        ask.
        """
        o, seed, made = self.options, self.recipe.seed, row.payload
        asked, wording, demand = made["question"], "", None
        if unit_interval(seed, "demand", row.id) < o.demand_share:
            demand = draw_demand(made["words"], o.demand_unit, seed, row.id)
            variables = {
                "instruction": asked,
                "kind": demand.kind,
                "numbers": demand.numbers,
                "chinese": is_chinese(asked),
            }
            sampling = llm.sampling.override(max_tokens=o.instruction_tokens, stop=("\n",))
            for number in range(o.demand_tries):
                reply = await _answer(llm, ASK_FOR_LENGTH, sampling, number, **variables)
                stated = reply.finish_reason == "stop" and states(reply.text, demand, asked)
                if stated and instructions.keeps(asked, reply.text):
                    asked, wording = reply.text.strip(), "model"
                    break
            else:
                variant = int(3 * unit_interval(seed, "wording", row.id))
                rendered = self.prompts.render(WITH_LENGTH, wording=variant, **variables)
                asked, wording = rendered[0]["content"], "template"
        wanted = str(demand) if demand else None
        verdict = {
            "correct": True,
            "extracted": f"{made['words']} words",
            "draft_words": made["draft_words"],
            "demand": wanted,
        }
        return Kept([row.child("verify", 0, asked=asked, wording=wording, demand=wanted, verdict=verdict)])

    def _write(self, instruction: str) -> list[Message]:
        return self.prompts.render(WRITE, instruction=instruction)

    def _extend(self, instruction: str, text: str) -> list[Message]:
        return self.prompts.render(EXTEND, instruction=instruction, text=text)

    def question(self, row: Row) -> list[Message]:
        """The bare instruction."""
        return self._write(row.payload["question"])

    def examples(self, row: Row) -> list[Example]:
        """The generator's pair and the extender's; a real demonstration, which nobody extended, has only the
        first. The control learns the draft instead.
        """
        made = row.payload
        if self._learns_draft(row):
            return [Example(self._write(made["question"]), [_assistant(made["draft"])], role=GENERATOR)]
        answer = [_assistant(made["text"])]
        pairs = [Example(self._write(made.get("asked", made["question"])), answer, role=GENERATOR)]
        if "draft" in made:
            draft = thinned(made["draft"], self.options.noise, self.recipe.seed, row.id)
            pairs.append(Example(self._extend(made["question"], draft), answer, role=EXTENDER))
        return pairs

    def pairs(self, right: Sequence[Row], wrong: Sequence[Row]) -> Iterable[Pair]:
        """The long text against its draft, as answers to the instruction."""
        for row in right:
            made = row.payload
            short = Row(row.id, {**made, "verdict": {"correct": False, "problem": "shorter"}}, row.parents)
            chosen, rejected = ([_assistant(made[name])] for name in ("text", "draft"))
            yield Pair(self._write(made["asked"]), chosen, rejected, row, short)

    def _learns_draft(self, row: Row) -> bool:
        return self.options.arm == "drafts" and "draft" in row.payload

    def dedup_text(self, row: Row) -> str:
        """The text that is trained on; a draft may have several extensions."""
        return row.payload["draft" if self._learns_draft(row) else "text"]

    def trained_texts(self, row: Row) -> list[str]:
        """The text, and the draft in the extender's prompt. In the control too, which learns from the same
        rows.
        """
        return [row.payload[name] for name in ("text", "draft") if name in row.payload]

    def evaluation(self, name: str | None) -> Stage:
        """Write texts for each instruction and measure them."""
        return length_evaluation.stage(self.recipe, WRITE, name, GENERATOR)

    def measures(self, rows: Sequence[Row]) -> dict[str, list[float]]:
        """Words, repetition, rules and length scores of a set's texts, and of the control."""
        return length_evaluation.measures(rows)

    def advice(self, tasks: Sequence[Row]) -> list[str]:
        """Name the limits that are too small for the texts asked for."""
        return advice.advice(self.recipe, self.options)

    def report(self, run: RunDir) -> None:
        """Write lengths.txt and lengths.png: text lengths per macro-iteration, and what every filter kept."""
        length_report.write(run)

    def verified_by(self, round_: int) -> str:
        """Rules."""
        return f"rules for long texts, and more than {self.options.growth:g} times the words of the draft"

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Count the instructions that ask for a length, and those the model worded."""
        if self.options.arm == "drafts":
            return ["Control (method.arm: drafts): the texts are drafts that were not extended"]
        wordings = [row.payload["wording"] for row in rows]
        total, asking, own = len(wordings), len(wordings) - wordings.count(""), wordings.count("model")
        return [
            "Instructions that ask for the length of their text: "
            f"{asking} of {total}, {own} in the model's words"
        ]


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


async def _answer(llm: LLM, step: str, sampling: Sampling, number: int, **variables: Any) -> Completion:
    """Return a short reply without thoughts. One that `sampling`, sized for the reply alone, cut off within a
    thought is asked for again with the room of a text.
    """
    [reply] = await llm.ask(step, sampling=sampling, sample_index=number, **variables)
    if reply.finish_reason == UNFINISHED:
        roomy = sampling.override(max_tokens=max(sampling.max_tokens, llm.sampling.max_tokens), stop=())
        [reply] = await llm.ask(step, sampling=roomy, sample_index=number, **variables)
    return reply


def _accepted(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
    """Drop the rows of instructions and drafts that were not accepted."""
    for row in rows():
        why = row.payload["problem"]
        yield row, Dropped(why[0], why[1], row.payload["text"]) if why else None

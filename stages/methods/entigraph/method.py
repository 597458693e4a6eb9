"""EntiGraph: a small corpus rewritten into a large one by way of its entities, for continued pretraining
(arXiv 2409.07431).

    document --entities--> summary, entities --plan--> pairs, triples --relation--> a text per set

A task is a document with its title in the first line. Each text is one row, whose id derives from the
document, the round, the form of the text and the entities, so that an interrupted document resumes with no
text twice and none missing. Two arms to compare with:

    arm: rephrase    the same document in three styles (simple, encyclopedic, scholarly), as often as wanted
    arm: raw         the document itself

generate writes the texts, critique drops those that a judge finds unfaithful (optional), filter those that
are malformed, copied from the document, or near-duplicates. Nothing is verified: there is no single right
answer to what a text says. Source: Yang et al. 2024.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline import thoughts
from pipeline.engines.base import Message, Sampling
from pipeline.errors import ConfigError, EngineError
from pipeline.ids import unit_interval
from pipeline.methods import Example, Method, Stage
from pipeline.protocols import Work
from pipeline.publish import text_ids
from pipeline.rows import Dropped, Failed, Kept, Outcome, Row
from pipeline.rundir import RoundKey
from pipeline.runner.llm import LLM, together
from pipeline.stage import DatasetStep, StageFunction
from stages.methods.entigraph import advice, copies, entities, plan
from stages.methods.entigraph.options import EntiGraphOptions
from stages.methods.entigraph.texts import cap_tokens, sections, title_of, unnamed
from stages.steps import filters
from stages.steps.near_duplicates import near_duplicates
from stages.steps.samples import answer_fields
from stages.steps.sentences import whole_sentences

VERSION = 4
WRITER = "writer"  # the seat of method.writer
SHINGLE = 3  # words: near-duplicates share most of their runs of so many
ENTITIES, RELATION, REPHRASE = "entigraph/entities", "entigraph/relation", "entigraph/rephrase"
JUDGE, ASK, ASK_OPEN = "entigraph/judge", "entigraph/ask", "entigraph/ask_open"
STYLES = ("simple", "encyclopedic", "scholarly")
ASKED = {"entigraph": (ENTITIES, RELATION), "rephrase": (REPHRASE,), "raw": ()}
WRITTEN_BY = {
    *("arm", "entity_attempts", "enough_entities", "max_entities", "grounded", "max_pairs", "max_triples"),
    *("summary", "rephrasings", "sections", "truncated", "sampling"),
}  # the options that generate depends on
NOTHING: dict[str, Any] = {"text": "", "finish_reason": "stop", "prompt_tokens": 0, "completion_tokens": 0}


class Judgement(BaseModel):
    """The judge's reply."""

    # The description is part of the request, and so of its key: changing it would ask killed runs again.
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"description": "What a judge is asked for."}
    )

    unsupported: list[str]
    faithful: bool


class EntiGraph(Method):
    """One row per text."""

    name = "entigraph"
    Options = EntiGraphOptions
    options: EntiGraphOptions
    engine_options = ("writer",)
    dataset = "cpt"
    lineage: ClassVar[dict[str, str]] = {"form": "string", "entities": "strings"}

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        asked = (recipe.held_out.source or recipe.tasks, *recipe.evaluate.sets.values())
        choices = all(source.answer_type == "choice" for source in asked)
        self.question_prompts = (ASK,) if choices else (ASK, ASK_OPEN)
        if recipe.train.kind != "cpt":
            raise ConfigError(
                "method entigraph writes plain texts, not examples: set train.kind: cpt (it is "
                f"{recipe.train.kind})."
            )
        if self.options.writer:
            self.options.writer.check(recipe, "method.writer")
        if recipe.demonstrations is not None:
            raise ConfigError(
                "method entigraph does not use demonstrations: its real data are the documents (method.arm: "
                "raw trains on them)."
            )

    def stages(self) -> dict[str, Stage]:
        """Write texts; judge a share of them; drop what says nothing new."""
        o = self.options
        checked = {"sections", "check_sections", "copy_chars", "near_duplicate"}
        checks = o.model_dump(mode="json", include=checked)
        checks |= {"filters": self.recipe.filters.fingerprint()}
        steps: dict[str, DatasetStep] = {}
        if o.near_duplicate:
            document, text = (lambda row: row.payload["task_id"]), (lambda row: row.payload["text"])
            steps["near_duplicates"] = near_duplicates(o.near_duplicate, SHINGLE, tuple, text, document)
        if o.check_names:
            checks["check_names"] = True
        written = o.model_dump(mode="json", include=WRITTEN_BY)
        judge = {"faithfulness": o.faithfulness, "sampling": o.sampling.judge.model_dump()}

        def asking(row: StageFunction, prompts: tuple[str, ...], config: dict[str, Any]) -> Stage:
            if not o.writer or not prompts:
                return Stage(row, prompts=prompts, config=config, version=VERSION)
            seats, config = {WRITER: o.writer.seat("method.writer")}, config | {"writer": o.writer.identity()}
            return Stage(row, prompts=prompts, config=config, version=VERSION, seats=seats)

        return {
            "generate": asking(self.generate, ASKED[o.arm], written),
            "critique": asking(self.critique, (JUDGE,) if o.faithfulness else (), judge),
            "filter": Stage(row=self.filter, steps=steps, config=checks, version=VERSION),
            "verify": Stage(),
        }

    def work(self, stage: str, round_: RoundKey) -> Work | None:
        """What a row of a stage asks of the model."""
        return plan.work(self.options, stage)

    async def generate(self, row: Row, llm: LLM) -> Outcome:
        """One document in, one row per text out.

        All texts are requested at once; if one fails, the finished ones are in the log.
        """
        llm = llm.at(WRITER)
        if self.options.arm == "raw":
            made = {**NOTHING, "text": row.payload["question"]}
            return Kept([self._row(row, llm, "raw", (), "", made, model="")])
        if self.options.arm == "rephrase":
            wanted = [(style, i) for style in STYLES for i in range(self.options.rephrasings)]
            return await _kept(
                self._text(row, llm, REPHRASE, f"rephrase:{style}", (), i, style=style) for style, i in wanted
            )
        return await self._relations(row, llm)

    async def _relations(self, row: Row, llm: LLM) -> Outcome:
        """Ask for the entities, then for a text about each planned set of them."""
        o = self.options
        listed = await self._entities(row, llm)
        if not isinstance(listed, tuple):
            return listed
        summary, names = listed
        seed = int(unit_interval(self.recipe.seed, "plan", llm.round, row.id) * 2**32)
        plan = entities.plan(len(names), o.max_pairs, o.max_triples, seed)
        sets = [tuple(names[i] for i in chosen) for chosen in plan]
        forms = {2: "pair", 3: "triple"}
        texts = await _kept(
            self._text(row, llm, RELATION, forms[len(s)], s, 0, entities=list(s), sections=o.sections)
            for s in sets
        )
        return Kept([self._row(row, llm, "summary", (), "", summary), *texts.rows]) if o.summary else texts

    async def _entities(self, row: Row, llm: LLM) -> tuple[dict[str, Any], list[str]] | Failed | Dropped:
        """Return a document's summary (as fields of a text) and its entities, or why there are none after all
        attempts.
        """
        document, o = row.payload["question"], self.options
        first: tuple[Any, str] | None = None
        names: list[str] = []
        sampling, schema, problem = self._sampling(llm, "entities"), entities.schema(o.max_entities), ""
        for attempt in range(o.entity_attempts):
            [reply] = await llm.ask(
                ENTITIES, sampling=sampling, sample_index=attempt, json_schema=schema, document=document
            )
            listed = entities.read(thoughts.without(reply.text))
            if reply.finish_reason == "length":
                listed = f"cut off after {reply.completion_tokens} tokens"
            if isinstance(listed, str):
                problem = listed
                continue
            first = first or (reply, listed.summary.strip())
            grounded = [n for n in listed.entities if not o.grounded or entities.occurrences(n, document)]
            names = entities.distinct([*names, *grounded])
            if len(names) >= o.enough_entities:
                break
        if first is None:
            why = f"none of {o.entity_attempts} replies is usable; the last: {problem}"
            return Failed("unusable_entities", why, reply.text)
        names = entities.most_frequent(names, document, o.max_entities)
        if len(names) < 2:
            return Dropped(
                "too_few_entities", f"{len(names)} in {o.entity_attempts} replies; the last:", reply.text
            )
        first_reply, summary = first
        words = len(summary.split())
        return {
            **answer_fields(first_reply),
            "text": summary,
            "prompt_tokens": 0,
            "completion_tokens": words,
        }, names

    async def _text(
        self,
        row: Row,
        llm: LLM,
        template: str,
        form: str,
        names: tuple[str, ...],
        number: int,
        **variables: Any,
    ) -> Row:
        """Request one text.

        One that is refused for good becomes a row that says so: it must not take its document along.
        """
        step, document = template.rsplit("/", 1)[1], row.payload["question"]
        variables |= {"document": document, "title": title_of(document)}
        try:
            [reply] = await llm.ask(
                template, sampling=self._sampling(llm, step), sample_index=number, **variables
            )
        except EngineError as e:
            if not e.refused:
                raise
            made = {**NOTHING, "finish_reason": "refused", "problem": str(e)}
            return self._row(row, llm, form, names, number, made, step)
        made = answer_fields(reply) | {"text": thoughts.without(reply.text)}
        cut = reply.finish_reason == "length" and self.options.truncated == "cut"
        if cut and (whole := whole_sentences(made["text"])):
            made |= {"text": whole, "finish_reason": "cut"}
        return self._row(row, llm, form, names, number, made, step)

    def _row(
        self,
        row: Row,
        llm: LLM,
        form: str,
        names: tuple[str, ...],
        number: int | str,
        made: dict[str, Any],
        step: str = "entities",
        **changes: Any,
    ) -> Row:
        key = f"{form}/{json.dumps(names, ensure_ascii=False) if names else number}"
        common = {"problem": "", "model": llm.model, "sampling": self._sampling(llm, step).as_json}
        content = {"form": form, "key": key, "entities": list(names), **common, **made, **changes}
        return row.child("generate", f"{llm.round}/{key}", **content)

    def _sampling(self, llm: LLM, step: str) -> Sampling:
        return getattr(self.options.sampling, step).applied_to(llm.sampling)

    async def critique(self, row: Row, llm: LLM) -> Outcome:
        """Drop refused texts, and of a seeded draw those that a judge finds unfaithful; an unreadable
        judgement drops nothing.

        Reasons: request_refused, unfaithful.
        """
        made, llm = row.payload, llm.at(WRITER)
        if made["finish_reason"] == "refused":
            return Dropped("request_refused", made["problem"])
        if not made["model"] or unit_interval(self.recipe.seed, "judge", row.id) >= self.options.faithfulness:
            return Kept([row.child("critique", 0)])
        schema, sampling = Judgement.model_json_schema(), self._sampling(llm, "judge")
        [reply] = await llm.ask(
            JUDGE, sampling=sampling, json_schema=schema, document=made["question"], text=made["text"]
        )
        try:
            judged = Judgement.model_validate_json(thoughts.without(reply.text))
        except ValidationError:
            verdict = {"faithful": None, "problem": "unreadable", "raw": reply.text[:500]}
            return Kept([row.child("critique", 0, verdict=verdict)])
        if not judged.faithful:
            return Dropped("unfaithful", "; ".join(judged.unsupported)[:500], made["text"])
        return Kept([row.child("critique", 0, verdict=judged.model_dump())])

    async def filter(self, row: Row, llm: LLM) -> Outcome:
        """Drop what is malformed or copied. From here on a row carries its document's title, not the whole
        document.

        Reasons: those of the shared filter, missing_sections, missing_names, copied.
        """
        made, document = row.payload, row.payload["question"]
        if made["form"] != "raw" and (problem := self._problem(made, document, row)):
            return Dropped(*problem)
        return Kept([row.child("filter", 0, question=title_of(document))])

    def _problem(self, made: dict[str, Any], document: str, row: Row) -> tuple[str, str, str] | None:
        o, text = self.options, made["text"]
        if malformed := filters.problem(row, self.recipe.filters):
            return *malformed, text
        wanted = len(made["entities"]) + 1 if made["form"] in ("pair", "triple") else 0
        if o.sections and o.check_sections and (there := sections(text)) < wanted:
            return "missing_sections", f"{there} sections, expected {wanted}", text
        if o.check_names and (missing := unnamed(text, title_of(document), made["entities"])):
            return "missing_names", ", ".join(missing), text
        if o.copy_chars and (run := copies.copied(text, document, o.copy_chars)):
            return "copied", run[:200], text
        return None

    def question(self, row: Row) -> list[Message]:
        """The chat that asks a question about the documents without showing them, after five solved ones."""
        question, options = row.payload["question"], row.payload.get("options")
        if not options and row.payload.get("answer_type") != "choice":
            return self.prompts.render(ASK_OPEN, question=question)
        return self.prompts.render(ASK, question=question, options=options)

    def examples(self, row: Row) -> list[Example]:
        """None: this method publishes texts."""
        return []

    def texts(self, row: Row) -> list[str]:
        """The text."""
        return [row.payload["text"]]

    def advice(self, tasks: Sequence[Row]) -> list[str]:
        """Name the kinds of request whose replies have too little room."""
        return advice.advice(self.recipe, self.options, tasks)

    def verified_by(self, round_: int) -> str:
        """Nothing."""
        return ""

    def publish_steps(self, round_: int, tokenizer: Any) -> dict[str, DatasetStep]:
        """Keep to the token budget."""
        budget = self.options.token_budget
        count = lambda text: len(text_ids(tokenizer, text))  # noqa: E731
        return {"token_budget": partial(cap_tokens, budget, self.recipe.seed, count)} if budget else {}

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Count the texts by form, and those compared with their document."""
        forms: Counter[str] = Counter()
        verdicts: Counter[str] = Counter()
        for row in rows:
            forms[row.payload["form"]] += 1
            if verdict := row.payload.get("verdict"):
                verdicts["read" if verdict["faithful"] else "unreadable"] += 1
        counted = ", ".join(f"{name} {n}" for name, n in sorted(forms.items())) or "none"
        return [
            f"Arm: {self.options.arm}; texts: {counted}",
            f"Compared with their document: {verdicts['read']} of "
            f"{forms.total()} ({verdicts['unreadable']} unreadable)",
        ]


async def _kept(texts: Iterable[Any]) -> Kept:
    """Keep all texts. If every one was refused, the document has failed."""
    made = await together(texts)
    if made and all(text.payload["finish_reason"] == "refused" for text in made):
        raise EngineError(
            f"every text of the document was refused, the first with: {made[0].payload['problem']}"
        )
    return Kept(made)

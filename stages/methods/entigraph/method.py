"""EntiGraph: a small corpus rewritten into a large one by way of its entities (Yang et al. 2024, arXiv 2409.07431), for continued pretraining.

    document --entities--> summary, entities --plan--> pairs, triples --relation--> one text for each set of entities

A task is a document, its title in the first line. Each text is one row whose id comes of the document, the round, the form of the text
and the entities, so that a document that was interrupted goes on where it was, with no text twice and none missing. The arms to compare
with are `rephrase` (the same document in three styles, again and again) and `raw` (the document itself).

    arm: raw --------------------------------> the document
    arm: rephrase --simple, encyclopedic, scholarly--> as many texts as wanted

generate makes the texts, critique drops those that a judge finds unfaithful (optional), filter those that are malformed, copied from
the document or nearly the same as another. Nothing is verified: what a text says has no one right answer.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline import prompts
from pipeline.engines.base import Message, Sampling
from pipeline.errors import ConfigError, EngineError
from pipeline.ids import unit_interval
from pipeline.methods import DatasetStep, Example, Method, Options, Stage
from pipeline.rows import Dropped, Failed, Kept, Outcome, Row
from pipeline.runner.llm import LLM, together
from stages.methods.entigraph import copies, entities
from stages.steps import filters
from stages.steps.samples import StepSampling, answer_fields

logger = logging.getLogger(__name__)

VERSION = 3
ENTITIES, RELATION, REPHRASE = "entigraph/entities", "entigraph/relation", "entigraph/rephrase"
JUDGE, ASK = "entigraph/judge", "entigraph/ask"
STYLES = ("simple", "encyclopedic", "scholarly")
ASKED = {"entigraph": (ENTITIES, RELATION), "rephrase": (REPHRASE,), "raw": ()}
# As published nothing is filtered, and how many triples there are is how long somebody waited: about 2,000 of a document by its totals.
PAPER: dict[str, Any] = {
    "grounded": False,
    "max_entities": None,
    "max_triples": 2000,
    "check_sections": False,
    "copy_chars": None,
    "near_duplicate": None,
}


class Steps(BaseModel):
    """The kinds of requests."""

    model_config = ConfigDict(extra="forbid")

    entities: StepSampling = Field(default_factory=StepSampling)
    relation: StepSampling = Field(default_factory=StepSampling)
    rephrase: StepSampling = Field(default_factory=StepSampling)
    judge: StepSampling = Field(default_factory=StepSampling)


class EntiGraphOptions(Options):
    """Options of `entigraph`."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {"careful": {}, "paper": PAPER}
    name: Literal["entigraph"] = "entigraph"
    preset: Literal["careful", "paper"] = Field(
        "careful", description="paper: all pairs, many triples, and no filter, as published"
    )
    arm: Literal["entigraph", "rephrase", "raw"] = Field(
        "entigraph", description="what is made of a document: texts on its entities, rephrasings, or itself"
    )
    token_budget: int | None = Field(
        None,
        ge=1,
        description="tokens of a round that are published (seeded draw; a smaller budget's texts are a part of a larger one's)",
    )
    entity_attempts: int = Field(3, ge=1, description="lists of entities that are asked for, at most")
    enough_entities: int = Field(
        2,
        ge=2,
        description="another list is asked for until so many entities are found, in all of a document's lists together",
    )
    max_entities: int | None = Field(
        30,
        ge=2,
        description="the model may list so many (guided decoding); where an endpoint ignores that, those that the document names most often; null: all",
    )
    grounded: bool = Field(True, description="drop entities that the document does not name")
    max_pairs: int | None = Field(None, ge=0, description="default: all pairs of a document's entities")
    max_triples: int = Field(100, ge=0, description="never more of a document than this")
    summary: bool = Field(True, description="the summary is a text as well, as published")
    rephrasings: int = Field(3, ge=1, description="of each document in each of the three styles")
    sections: bool = Field(
        True,
        description="ask for a headed section on each entity and one on all of them, as published; off for small models",
    )
    check_sections: bool = Field(
        True, description="drop texts that were asked for sections and do not have as many"
    )
    truncated: Literal["drop", "cut"] = Field(
        "drop",
        description="a text that ran into max_tokens is left to filters.drop_truncated, or ends after its last whole sentence",
    )
    copy_chars: int | None = Field(
        200, ge=1, description="drop a text with a longer run of characters from its document; null: off"
    )
    near_duplicate: float | None = Field(
        0.8,
        gt=0,
        le=1,
        description="drop a text this similar to another of its document (MinHash); null: off",
    )
    faithfulness: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the texts that the model compares with their document; unfaithful ones are dropped",
    )
    sampling: Steps = Field(default_factory=Steps)


class Judgement(BaseModel):
    """What a judge is asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    unsupported: list[str]
    faithful: bool


class EntiGraph(Method):
    """One row per text."""

    name = "entigraph"
    Options = EntiGraphOptions
    dataset = "cpt"

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        if recipe.train.kind != "cpt":
            raise ConfigError(
                f"method entigraph makes texts, not examples: set train.kind: cpt (it is {recipe.train.kind})."
            )
        if recipe.demonstrations is not None:
            raise ConfigError(
                "method entigraph has no use for demonstrations: its real data are the documents (method.arm: raw trains on them)."
            )

    def stages(self) -> dict[str, Stage]:
        """Make texts; judge a share of them; drop what says nothing new."""
        o = self.options
        made = o.model_dump(
            mode="json",
            include={
                "arm",
                "entity_attempts",
                "enough_entities",
                "max_entities",
                "grounded",
                "max_pairs",
                "max_triples",
                "summary",
                "rephrasings",
                "sections",
                "truncated",
                "sampling",
            },
        )
        checks = o.model_dump(
            mode="json", include={"sections", "check_sections", "copy_chars", "near_duplicate"}
        ) | {"filters": self.recipe.filters.model_dump(mode="json")}
        steps: dict[str, DatasetStep] = (
            {"near_duplicates": copies.near_duplicates(o.near_duplicate)} if o.near_duplicate else {}
        )
        judge = {"faithfulness": o.faithfulness, "sampling": o.sampling.judge.model_dump()}
        return {
            "generate": Stage(row=self.generate, prompts=ASKED[o.arm], config=made, version=VERSION),
            "critique": Stage(
                row=self.critique, prompts=(JUDGE,) if o.faithfulness else (), config=judge, version=VERSION
            ),
            "filter": Stage(row=self.filter, steps=steps, config=checks, version=VERSION),
            "verify": Stage(),
        }

    async def generate(self, row: Row, llm: LLM) -> Outcome:
        """One document in, one row per text out. All texts of a document are asked for at once; what finished is in the log if one fails."""
        return await {"entigraph": self._relations, "rephrase": self._rephrasings, "raw": self._raw}[
            self.options.arm
        ](row, llm)

    async def _raw(self, row: Row, llm: LLM) -> Outcome:
        made = {
            "text": row.payload["question"],
            "finish_reason": "stop",
            "prompt_tokens": 0,
            "completion_tokens": 0,
        }
        return Kept([self._row(row, llm, "raw", (), "", made, model="")])

    async def _rephrasings(self, row: Row, llm: LLM) -> Outcome:
        wanted = [(style, i) for style in STYLES for i in range(self.options.rephrasings)]
        return await _kept(
            self._text(row, llm, REPHRASE, f"rephrase:{style}", (), i, style=style) for style, i in wanted
        )

    async def _relations(self, row: Row, llm: LLM) -> Outcome:
        """Ask for the entities, then for a text on each planned set of them."""
        o = self.options
        found = await self._entities(row, llm)
        if not isinstance(found, tuple):
            return found
        summary, names = found
        seed = int(unit_interval(self.recipe.seed, "plan", llm.round, row.id) * 2**32)
        sets = [
            tuple(names[i] for i in chosen)
            for chosen in entities.plan(len(names), o.max_pairs, o.max_triples, seed)
        ]
        forms = {2: "pair", 3: "triple"}
        made = await _kept(
            self._text(
                row, llm, RELATION, forms[len(chosen)], chosen, 0, entities=list(chosen), sections=o.sections
            )
            for chosen in sets
        )
        return Kept([self._row(row, llm, "summary", (), "", summary), *made.rows]) if o.summary else made

    async def _entities(self, row: Row, llm: LLM) -> tuple[dict[str, Any], list[str]] | Failed | Dropped:
        """Return a document's summary, as fields of a text, and its entities; or what is wrong, once as many lists were asked for as may be."""
        document, o = row.payload["question"], self.options
        first: Any = None
        names: list[str] = []
        for attempt in range(o.entity_attempts):
            [reply] = await llm.ask(
                ENTITIES,
                sampling=self._sampling(llm, "entities"),
                sample_index=attempt,
                json_schema=entities.schema(o.max_entities),
                document=document,
            )
            found = (
                entities.read(reply.text)
                if reply.finish_reason != "length"
                else f"cut off after {reply.completion_tokens} tokens"
            )
            if isinstance(found, str):
                continue
            first = first or (reply, found.summary.strip())
            names = entities.distinct(
                [*names, *(n for n in found.entities if not o.grounded or entities.occurrences(n, document))]
            )
            if len(names) >= o.enough_entities:
                break
        if first is None:
            return Failed(
                "unusable_entities",
                f"none of {o.entity_attempts} replies could be used; the last: {found}",
                reply.text,
            )
        names = entities.most_frequent(names, document, o.max_entities)
        if len(names) < 2:
            return Dropped(
                "too_few_entities", f"{len(names)} in {o.entity_attempts} replies; the last one:", reply.text
            )
        reply, summary = first
        return {
            **answer_fields(reply),
            "text": summary,
            "prompt_tokens": 0,
            "completion_tokens": len(summary.split()),
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
        """Ask for one text. One that is refused for good is a row that says so, and does not take its document along."""
        step, document = template.rsplit("/", 1)[1], row.payload["question"]
        try:
            [reply] = await llm.ask(
                template,
                sampling=self._sampling(llm, step),
                sample_index=number,
                document=document,
                title=title_of(document),
                **variables,
            )
        except EngineError as e:
            if not e.refused:
                raise
            nothing = {
                "text": "",
                "finish_reason": "refused",
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "problem": str(e),
            }
            return self._row(row, llm, form, names, number, nothing, step)
        made = answer_fields(reply)
        if (
            reply.finish_reason == "length"
            and self.options.truncated == "cut"
            and (whole := whole_sentences(made["text"]))
        ):
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
        return row.child(
            "generate",
            f"{llm.round}/{key}",
            form=form,
            key=key,
            entities=list(names),
            **{
                "problem": "",
                "model": llm.model,
                "sampling": self._sampling(llm, step).as_json,
                **made,
                **changes,
            },
        )

    def _sampling(self, llm: LLM, step: str) -> Sampling:
        return llm.sampling.updated(**getattr(self.options.sampling, step).model_dump(exclude_none=True))

    async def critique(self, row: Row, llm: LLM) -> Outcome:
        """Drop refused texts, and of a seeded draw those that a judge finds unfaithful. A judgement that cannot be read drops nothing and says so.

        Reasons: request_refused, unfaithful.
        """
        made = row.payload
        if made["finish_reason"] == "refused":
            return Dropped("request_refused", made["problem"])
        if not made["model"] or unit_interval(self.recipe.seed, "judge", row.id) >= self.options.faithfulness:
            return Kept([row.child("critique", 0)])
        schema = Judgement.model_json_schema()
        [reply] = await llm.ask(
            JUDGE,
            sampling=self._sampling(llm, "judge"),
            json_schema=schema,
            document=made["question"],
            text=made["text"],
        )
        try:
            judged = Judgement.model_validate_json(reply.text)
        except ValidationError:
            return Kept(
                [
                    row.child(
                        "critique",
                        0,
                        verdict={"faithful": None, "problem": "unreadable", "raw": reply.text[:500]},
                    )
                ]
            )
        if not judged.faithful:
            return Dropped("unfaithful", "; ".join(judged.unsupported)[:500], made["text"])
        return Kept([row.child("critique", 0, verdict=judged.model_dump())])

    async def filter(self, row: Row, llm: LLM) -> Outcome:
        """Drop what is malformed or copied. From here on a row has its document's title, and no longer all of the document.

        Reasons: those of the shared filter, missing_sections, copied.
        """
        made, o = row.payload, self.options
        document, relation = made["question"], made["form"] in ("pair", "triple")
        if made["form"] != "raw":
            if found := filters.problem(row, self.recipe.filters):
                return Dropped(*found, made["text"])
            headings = sum(line.lstrip().startswith("#") for line in made["text"].splitlines())
            if relation and o.sections and o.check_sections and headings != len(made["entities"]) + 1:
                return Dropped(
                    "missing_sections",
                    f"{headings} headings, expected {len(made['entities']) + 1}",
                    made["text"],
                )
            if o.copy_chars and (run := copies.copied(made["text"], document, o.copy_chars)):
                return Dropped("copied", run[:200], made["text"])
        return Kept([row.child("filter", 0, question=title_of(document))])

    def question(self, row: Row) -> list[Message]:
        """The chat that asks a question about the documents, without them, after five others with their answers."""
        return prompts.render(ASK, question=row.payload["question"], options=row.payload.get("options"))

    def question_prompts(self) -> tuple[str, ...]:
        """The template that `question` renders."""
        return (ASK,)

    def examples(self, row: Row) -> list[Example]:
        """None: texts are what is trained on."""
        return []

    def texts(self, row: Row) -> list[str]:
        """The text."""
        return [row.payload["text"]]

    def verified_by(self, round_: int) -> str:
        """Nothing."""
        return ""

    def publish_steps(self, round_: int, tokenizer: Any) -> dict[str, DatasetStep]:
        """Keep to the token budget."""
        from pipeline.publish import text_ids  # it imports `datasets`, which stage workers do without

        budget = self.options.token_budget
        return (
            {
                "token_budget": partial(
                    within, budget, self.recipe.seed, lambda text: len(text_ids(tokenizer, text))
                )
            }
            if budget
            else {}
        )

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Say what the texts are, and how many were compared with their document."""
        forms: Counter[str] = Counter()
        verdicts: Counter[str] = Counter()
        for row in rows:
            forms[row.payload["form"]] += 1
            if verdict := row.payload.get("verdict"):
                verdicts["read" if verdict["faithful"] else "unreadable"] += 1
        made = ", ".join(f"{name} {n}" for name, n in sorted(forms.items()))
        return [
            f"Arm: {self.options.arm}; texts: {made or 'none'}",
            f"Compared with their document: {verdicts['read']} of {forms.total()} (and {verdicts['unreadable']} in vain)",
        ]


def title_of(document: str) -> str:
    """Return a document's title: its first line."""
    return document.strip().split("\n", 1)[0].strip()


def whole_sentences(text: str) -> str:
    """Return a text up to the end of its last whole sentence, '' without one."""
    return (
        text[: max(text.rfind(mark) for mark in (". ", "! ", "? ", ".\n", "!\n", "?\n")) + 1].rstrip()
        if text[-1:] not in ".!?"
        else text
    )


def within(
    budget: int, seed: int, tokens: Callable[[str], int], rows: Callable[[], Iterable[Row]]
) -> Iterator[tuple[Row, Dropped | None]]:
    """Keep rows in a seeded order for as long as they fit into `budget` tokens; the others are dropped as over_budget."""
    sizes = {row.id: tokens(row.payload["text"]) for row in rows()}
    kept, used = set(), 0
    for row_id in sorted(sizes, key=lambda i: (unit_interval(seed, "budget", i), i)):
        if used + sizes[row_id] > budget:
            break
        kept.add(row_id)
        used += sizes[row_id]
    else:
        logger.warning(
            "all %d texts have %d tokens together, no more than method.token_budget, %d: an arm that reaches it trains on more",
            len(kept),
            used,
            budget,
        )
    for row in rows():
        yield (
            row,
            None
            if row.id in kept
            else Dropped("over_budget", f"{used} of {budget} tokens are used", row.payload["text"]),
        )


async def _kept(texts: Iterable[Any]) -> Kept:
    """Keep all texts. All refused is a failure of the document."""
    made = await together(texts)
    if made and all(text.payload["finish_reason"] == "refused" for text in made):
        raise EngineError(
            f"every text of the document was refused, the first with: {made[0].payload['problem']}"
        )
    return Kept(made)

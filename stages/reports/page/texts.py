"""What changed in the texts, round by round: length, variety, repetition of earlier rounds, perplexity.

Three sources, as far as a run has them: the answers of each round's model to the held-out questions, which
are the same in all rounds; what the model wrote for training; and what of that was published.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from posixpath import basename
from typing import Any, NamedTuple

from pipeline.display import round_title
from pipeline.errors import DamagedError
from pipeline.overview import row_parts
from pipeline.rundir import RoundKey, RunDir, round_name
from pipeline.statistics import quantiles
from pipeline.store import files, lookup, parts
from stages.reports.page import spread
from stages.reports.page.charts import Point, Series, lines
from stages.reports.page.results import label
from stages.reports.table import Figures

Facts = dict[str, Any]
ANSWERS, WRITTEN, PUBLISHED = "held-out answers", "written", "published"
PREFERENCES = ("dpo", "kto")  # kinds of dataset
SOURCES = (ANSWERS, WRITTEN, PUBLISHED)
PARTS, MOST = 12, 40_000  # files and texts that are read of each source and round
TEXTS = 4000  # whose words are looked at
WORDS = 20_000  # of distinct-n, or as many as the round with the fewest has
FEWEST = 200  # words in a round that take part in distinct-n


class Measured(NamedTuple):
    """The texts of one source in one round: how many there are, their words, and their fingerprints."""

    texts: int
    words: list[list[str]]
    prints: list[str]
    lengths: dict[str, float]  # quantiles of words

    @property
    def total(self) -> int:
        return sum(map(len, self.words))


def texts(run: RunDir, figures: Sequence[Figures]) -> Facts:
    """Return the charts and the table of how texts changed; `figures` are those of evaluated rounds."""
    keys = run.rounds()
    found = {
        source: {r: m for r in keys if (m := _measure(islice(read(run, r), MOST)))}
        for source, read in ((ANSWERS, _answers), (WRITTEN, _written), (PUBLISHED, _published))
    }
    rows = [row for source in SOURCES for row in _rows(source, found[source])]
    rows = [row for row in rows if row["texts"]]
    charts = [
        _chart("Length in words", keys, rows, "words", "Median; the band holds the middle 80%."),
        _chart(
            "Distinct 2-grams",
            keys,
            rows,
            "distinct_2",
            "Share, over equally many words. Lower is less varied.",
            True,
        ),
        _chart(
            "Self-BLEU", keys, rows, "self_bleu", "Likeness to the other texts. Higher is less varied.", True
        ),
        _chart(
            "Already said in an earlier round", keys, rows, "repeated", "Share of texts, word for word.", True
        ),
    ]
    general = [
        (f["round"], f["replay_perplexity"]["perplexity"]) for f in figures if "replay_perplexity" in f
    ]
    if general:
        points = [Point(keys.index(r), v, tip=f"{round_title(r)}: {v:.2f}") for r, v in general]
        title = "Perplexity of held-out general text"
        svg = lines(title, [Series("perplexity", points, 3)], [label(r) for r in keys])
        charts.append({"title": title, "svg": svg, "legend": [], "caption": "Higher: it forgets."})
    return {"charts": [c for c in charts if c], "rows": rows, "perplexity": dict(general)}


def _rows(source: str, by_round: dict[RoundKey, Measured]) -> Iterator[Facts]:
    enough = [m.total for m in by_round.values() if m.total >= FEWEST]
    limit = min([WORDS, *enough])
    earlier: set[str] = set()
    for i, (round_, m) in enumerate(by_round.items()):
        varied = m.total >= FEWEST
        yield {
            "source": source,
            "round": round_,
            "texts": m.texts,
            "words": m.lengths.get("p50"),
            "low": m.lengths.get("p10"),
            "high": m.lengths.get("p90"),
            "distinct_1": spread.distinct(m.words, 1, limit) if varied else None,
            "distinct_2": spread.distinct(m.words, 2, limit) if varied else None,
            "self_bleu": spread.self_bleu(m.words[: spread.BLEU_TEXTS]),
            # Answers to the same questions are to be alike.
            "repeated": sum(p in earlier for p in m.prints) / len(m.prints)
            if i and source != ANSWERS
            else None,
            "within": 1 - len(set(m.prints)) / len(m.prints),
        }
        earlier.update(m.prints)


def _chart(
    title: str, keys: list[RoundKey], rows: list[Facts], value: str, caption: str, percent: bool = False
) -> Facts | None:
    series = []
    for i, source in enumerate(SOURCES):
        points = [
            Point(
                keys.index(row["round"]),
                row[value],
                row["low"] if value == "words" else None,
                row["high"] if value == "words" else None,
                f"{round_title(row['round'])}, {source}: {row[value]:{'.1%' if percent else ',.0f'}}",
            )
            for row in rows
            if row["source"] == source and row[value] is not None
        ]
        if points:
            series.append(Series(source, points, i, spread=True))
    if not series:
        return None
    svg = lines(title, series, [label(r) for r in keys], "share" if percent else "", zero=True)
    return {"title": title, "svg": svg, "legend": [(s.name, s.color) for s in series], "caption": caption}


def _measure(texts: Iterable[str]) -> Measured | None:
    found = [text for text in texts if text.strip()]
    if not found:
        return None
    some = [spread.split(text) for text in spread.choose(found, TEXTS)]
    lengths = quantiles([float(len(text)) for text in some])
    return Measured(len(found), some, [spread.fingerprint(text) for text in found], lengths)


def _answers(run: RunDir, round_: RoundKey) -> Iterator[str]:
    for payload in _payloads(row_parts(run.stage(round_, "evaluate"))):
        text = (payload.get("greedy") or {}).get("text")
        if isinstance(text, str):
            yield text


def _written(run: RunDir, round_: RoundKey) -> Iterator[str]:
    """Yield what the model wrote: the texts of generate's rows, or of critique's where generate has none."""
    for stage in ("generate", "critique"):
        some = False
        for payload in _payloads(row_parts(run.stage(round_, stage))):
            if isinstance(text := payload.get("text"), str) and payload.get("model"):
                some = True
                yield text
        if some:
            return


def _published(run: RunDir, round_: RoundKey) -> Iterator[str]:
    """Yield the texts that a round's datasets teach; answers for preference training, of which some are wrong
    on purpose, are left out.
    """
    columns = ("completion", "turns", "text")
    for kind in files.glob(run.path("datasets"), "*"):
        if basename(kind.rstrip("/")) in PREFERENCES:
            continue
        folder = files.join(kind, f"round-{round_name(round_)}", "train")
        for path in _spread(files.glob(folder, "data-*.arrow")):
            for batch in lookup.read_columns(path, columns):
                yield from (_trained_on(row) for row in batch.to_pylist())


def _trained_on(row: Facts) -> str:
    messages = row.get("completion") or [t for t in row.get("turns") or () if t["loss"]]
    return row.get("text") or "\n".join(m["content"] for m in messages)


def _payloads(paths: list[str]) -> Iterator[Facts]:
    for path in _spread(paths):
        try:
            yield from (row.payload for row in parts.read_rows(path))
        except DamagedError:  # the running stage removed it
            continue


def _spread(paths: list[str]) -> list[str]:
    """Return at most PARTS of the paths, evenly spread."""
    count = min(PARTS, len(paths))
    return [paths[i * len(paths) // count] for i in range(count)]

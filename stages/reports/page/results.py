"""Did it get better: accuracy by round with intervals, the readable share beside it, and flips."""

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.display import round_title
from pipeline.rundir import RoundKey
from stages.reports.page.charts import Point, Series, lines
from stages.reports.page.embed import signed
from stages.reports.table import Figures, interval

Facts = dict[str, Any]


def label(round_: RoundKey) -> str:
    """Return what a round is called below a chart."""
    return "base" if round_ == "base" else str(round_)


def results(figures: Sequence[Figures], number: str) -> Facts:
    """Return figures, charts and tables of evaluated rounds; `number` is what their evaluation measures."""
    titles = [label(f["round"]) for f in figures]
    ways = sorted({k for f in figures for k in f if k.startswith(("pass@", "maj@", "refined"))})
    measures = list(dict.fromkeys(name for f in figures for name in f.get("measures", {})))
    return {
        "headline": headline(figures, number),
        "rows": [_row(f) for f in figures],
        "charts": _charts(figures, titles, number),
        "ways": {name: [f.get(name) for f in figures] for name in ways},
        "measures": {name: [f.get("measures", {}).get(name) for f in figures] for name in measures},
        "sets": _sets(figures),
        "reference": "round 0" if any("against_round_0" in f for f in figures) else "base",
        "titles": [round_title(f["round"]) for f in figures],
    }


def headline(figures: Sequence[Figures], number: str) -> Facts:
    """Return the result in a sentence, and its tone: better, worse, or even where the interval holds 0."""
    if not figures:
        return {"tone": "even", "text": "No round is evaluated yet.", "detail": ""}
    last = figures[-1]
    greedy = f"{last['greedy']['mean']:.1%}"
    gain, title = gain_of(last), round_title(last["round"])
    if gain is None:
        return {"tone": "even", "text": f"{title.capitalize()}: {greedy} {number}.", "detail": ""}
    against = last["against_round_0" if "against_round_0" in last else "against_base"]
    reference = _reference(against["round"])
    points = f"{signed(gain['mean'])} points"
    tone = "better" if gain["low"] > 0 else "worse" if gain["high"] < 0 else "even"
    verdict = {
        "better": f"Better than {reference}: {points}.",
        "worse": f"Worse than {reference}: {points}.",
        "even": f"No clear change from {reference}: {points}.",
    }
    before = next((f for f in figures if f["round"] == against["round"]), None)
    was = f", {before['greedy']['mean']:.1%} before" if before else ""
    even = ", which includes 0" if tone == "even" else ""
    sure = f"The 95% interval of the difference is {signed(gain['low'])} to {signed(gain['high'])}{even}."
    detail = f"{title.capitalize()} has {greedy} {number}{was}, on {last['n']:,} held-out questions. {sure}"
    return {"tone": tone, "text": verdict[tone], "detail": " ".join([detail, *_taught_nothing(figures)])}


def _taught_nothing(figures: Sequence[Figures]) -> Iterator[str]:
    """Yield a sentence if nothing of what some rounds made was published: a gain is not theirs."""
    empty = [round_title(f["round"]) for f in figures if f.get("generated") and not f.get("kept")]
    if empty:
        rounds = ", ".join(empty)
        yield f"Nothing that the model wrote was trained on in {rounds}: see why rows were dropped."


def _reference(round_: RoundKey) -> str:
    return "the base model" if round_ == "base" else round_title(round_)


def gain_of(f: Figures) -> Facts | None:
    """Return a round's difference from round 0, or from the base model."""
    against = f.get("against_round_0") or f.get("against_base")
    if not against or f["round"] == "base" or against["difference"]["mean"] is None:
        return None  # there is nothing to compare with, or no question that both were asked
    return against["difference"]


def _row(f: Figures) -> Facts:
    train, previous = f.get("train") or {}, f.get("against_previous")
    return {
        "round": f["round"],
        "title": round_title(f["round"]),
        "note": "demonstrations" if f["round"] == 0 else "",
        "greedy": f["greedy"],
        "readable": _readable(f),
        "loose": f.get("loose"),
        "gain": gain_of(f),
        "won": previous["wrong_to_right"] if previous else None,
        "lost": previous["right_to_wrong"] if previous else None,
        "shares": train.get("shares"),
        "kept": f.get("kept") if f.get("generated") else None,
        "generated": f.get("generated"),
        "tokens": f.get("generated_tokens"),
        "minutes": (f.get("seconds") or 0) / 60,
    }


def _readable(f: Figures) -> float | None:
    return f["parsed"] / f["n"] if f.get("n") and f.get("parsed") is not None else None


def _charts(figures: Sequence[Figures], titles: list[str], number: str) -> list[Facts]:
    """Return charts, each with a title, a caption and a legend."""
    series = [Series(f"{number}, greedy", [_point(i, f, f["greedy"]) for i, f in enumerate(figures)])]
    read = [(i, f, share) for i, f in enumerate(figures) if (share := _readable(f)) is not None]
    if number == "accuracy" and read:
        points = [Point(i, s, tip=f"{round_title(f['round'])}: {s:.1%} readable") for i, f, s in read]
        series.append(Series("readable answers", points, 7, dashed=True))
    found = [_chart(f"Held-out {number} by round", series, titles, "Bars are 95% intervals.")]
    gains = [(i, f, g) for i, f in enumerate(figures) if (g := gain_of(f)) is not None]
    if gains:
        reference = _reference(0 if any("against_round_0" in f for f in figures) else "base")
        points = [_point(i, f, g, signed=True) for i, f, g in gains]
        caption = "Paired by question, with 95% intervals."
        title = f"Points gained over {reference}"
        found.append(_chart(title, [Series("difference", points)], titles, caption, "difference"))
    sampled = [k for k in dict.fromkeys(k for f in figures for k in f) if k.startswith(("pass@", "maj@"))]
    if sampled:
        several = [
            Series(name, [_point(i, f, f[name]) for i, f in enumerate(figures) if name in f], k)
            for k, name in enumerate(sampled)
        ]
        found.append(
            _chart("Sampled answers", several, titles, "pass@k: any of k is right; maj@k: their vote.")
        )
    for name in _sets(figures):
        held = [(i, f["sets"][name]) for i, f in enumerate(figures) if name in f.get("sets", {})]
        points = [_point(i, {"round": figures[i]["round"]}, s["greedy"]) for i, s in held]
        caption = f"A further set, n = {held[0][1]['n']:,}."
        found.append(_chart(name, [Series(number, points, 2)], titles, caption))
    return found


def _chart(title: str, series: list[Series], titles: list[str], caption: str, unit: str = "share") -> Facts:
    return {
        "title": title,
        "svg": lines(title, series, titles, unit),
        "legend": [(s.name, s.color) for s in series] if len(series) > 1 else [],
        "caption": caption,
    }


def _point(i: int, f: Figures, value: Facts, signed: bool = False) -> Point:
    tip = f"{round_title(f['round'])}: {interval(value, signed)}"
    return Point(i, value["mean"], value["low"], value["high"], tip)


def _sets(figures: Sequence[Figures]) -> Facts:
    """Return each further set's figures by round."""
    names = list(dict.fromkeys(name for f in figures for name in f.get("sets", {})))
    return {
        name: [
            (
                {**s, "gain": gain_of({"round": f["round"], **s})}
                if (s := f.get("sets", {}).get(name))
                else None
            )
            for f in figures
        ]
        for name in names
    }

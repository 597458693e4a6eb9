"""An arena's results for people: tables for the terminal and in Markdown."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from rich.table import Table as RichTable

from pipeline.console import console
from pipeline.display import round_title
from pipeline.printable import one_line
from stages.reports.table import interval

SHOWN_FLIPS = 5  # in Markdown
SHOWN_ROUNDS = 3  # after the start
Figures = dict[str, Any]
LABELS = {"sampled_tokens": "sampled tokens", "trained_tokens": "trained tokens"}
SAYS = (
    "Intervals and p cover other questions, not other seeds: look at the seeds' own values for that. p is "
    "two-sided and corrected by Holm, for the comparisons with the control and for the others apart. What "
    "arms share counts in full for each of them."
)


class Table(NamedTuple):
    """A title, the names of the columns, and rows of texts; the first column is a name."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def tables(found: Figures) -> Iterator[Table]:
    """Yield the tables of an arena's figures; none as long as no round can be compared."""
    if not found["arms"]:
        return
    seeds, last = found["compared"]["seeds"], found["compared"]["round"]
    of = f"seed {seeds[0]}" if len(seeds) == 1 else f"mean of seeds {', '.join(map(str, seeds))} (each)"
    yield _accuracy(found, f"{found['name']}: held-out {found['measured']}, {of}", last)
    yield _costs(found)
    yield from _compared(found["comparisons"], f"held-out, round {last}")
    for name, one in found["sets"].items():
        yield _of_set(found, name)
        yield from _compared(one["comparisons"], f"{name}, round {last}")


def show(found: Figures) -> None:
    """Print the tables, and what must be known beside them."""
    for table in tables(found):
        rich = RichTable(title=table.title, title_justify="left")
        for i, column in enumerate(table.columns):
            rich.add_column(column, justify="right" if i else "left")
        for row in table.rows:
            rich.add_row(*row)
        console.print(rich)
    for line in _remarks(found):
        console.print(line, markup=False)


def markdown(found: Figures, plot: bool) -> str:
    """Return the results as a Markdown document; with `plot` it shows arena.png beside it."""
    parts = [f"# {found['name']}", *_remarks(found)]
    for table in (*tables(found), *_measures(found), *_curves(found)):
        rows = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)], *table.rows]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        parts += [f"**{table.title}**", "\n".join(lines)]
    if plot:
        parts.append("![accuracy against tokens and minutes](arena.png)")
    parts += list(_harm(found))
    return "\n\n".join(parts) + "\n"


def _accuracy(found: Figures, title: str, last: int) -> Table:
    arms, against = (
        found["arms"],
        {c["arm"]: c for c in found["comparisons"] if c["against"] == found["control"]},
    )
    rounds = _shown_rounds(found)
    columns = [
        "arm",
        *(round_title(r) for r in rounds),
        "gain since its start",
        f"against {found['control']}",
        "p (Holm)",
    ]
    rows = []
    for arm in arms:
        known = {r["round"]: r for r in arm["by_round"]}
        cells = [_mean_of(known[r]["by_seed"], ".1%") if r in known else "" for r in rounds]
        gain = interval(arm["gain"], signed=True) if arm["gain"] else ""
        one = against.get(arm["arm"])
        rows.append([arm["arm"], *cells, gain, interval(one, signed=True) if one else "", _p(one)])
    return Table(f"{title}, n = {arms[0]['n']} [95%]", columns, rows)


def _costs(found: Figures) -> Table:
    """Return what each arm took in its rounds, as a multiple of the control's too, and what flipped."""
    columns = [
        "arm",
        *(LABELS.get(c, c) for c in found["arms"][0]["costs"]),
        *(("worse", "better") if _graded(found) else ("right to wrong", "wrong to right")),
    ]
    rows = []
    for arm in found["arms"]:
        cells = []
        for cost, value in arm["costs"].items():
            ratio = (arm.get("ratios") or {}).get(cost)
            flag = " UNEQUAL" if arm.get("unequal") and cost == found["equal"]["what"] else ""
            shown = f"{value:,.1f}" if cost == "minutes" else f"{value:,.0f}"
            cells.append(shown + (f" ({ratio:.2f}x{flag})" if ratio is not None else ""))
        flips = arm.get("flips_from_start")
        counts = [f"{flips['lost']} of {flips['n']}", str(flips["won"])] if flips else ["", ""]
        rows.append([arm["arm"], *cells, *counts])
    over = found["compared"]["round"]
    title = (
        f"what {'round 1' if over == 1 else f'rounds 1 to {over}'} took, a seed; what flipped since the start"
    )
    return Table(title, columns, rows)


def _graded(found: Figures) -> bool:
    return any((arm.get("flips_from_start") or {}).get("graded") for arm in found["arms"])


def _compared(comparisons: list[Figures], title: str) -> Iterator[Table]:
    if not comparisons:
        return
    rows = [
        [c["arm"], c["against"], interval(c, signed=True), _p(c), ", ".join(_signed(d) for d in c["by_seed"])]
        for c in comparisons
    ]
    columns = ["arm", "against", "difference", "p (Holm)", "each seed"]
    yield Table(f"{title}: arm against arm [95%]", columns, rows)


def _of_set(found: Figures, name: str) -> Table:
    rounds, rows = _shown_rounds(found), []
    for arm in found["arms"]:
        known = {r["round"]: r["sets"].get(name) for r in arm["by_round"]}
        rows.append([arm["arm"], *(f"{v:.1%}" if (v := known.get(r)) is not None else "" for r in rounds)])
    return Table(f"{name}: {found['measured']}", ["arm", *(round_title(r) for r in rounds)], rows)


def common_measures(found: Figures) -> list[str]:
    """Return the methods' own measures that all arms have in all rounds."""
    rounds = [r["measures"] for arm in found["arms"] for r in arm["by_round"]]
    return [name for name in rounds[0] if all(name in r for r in rounds)] if rounds else []


def _measures(found: Figures) -> Iterator[Table]:
    """Yield a table for each of the methods' own measures, over all rounds."""
    for name in common_measures(found):
        titles = dict.fromkeys(round_title(r["round"]) for arm in found["arms"] for r in arm["by_round"])
        rows = []
        for arm in found["arms"]:
            known = {round_title(r["round"]): r["measures"][name] for r in arm["by_round"]}
            rows.append([arm["arm"], *(_mean_of(known[t], ".3f") if t in known else "" for t in titles)])
        yield Table(f"{name}, mean (each seed)", ["arm", *titles], rows)


def _remarks(found: Figures) -> Iterator[str]:
    if not found["arms"]:
        yield "Nothing to compare yet: no round is finished by all arms with the same seed."
    else:
        yield SAYS
    equal = found["equal"]
    if pilots := equal["pilots"]:
        chosen = ", ".join(f"{arm} {one['value']}" for arm, one in pilots["arms"].items())
        yield f"{pilots['by']}, for equal sampled tokens: {chosen} (equal.json)."
    if unequal := [arm["arm"] for arm in found["arms"] if arm.get("unequal")]:
        what = LABELS.get(equal["what"], equal["what"])
        yield (
            f"UNEQUAL: {', '.join(unequal)} took more or fewer {what} than the control by over "
            f"{equal['tolerance']:.0%}, so a difference in accuracy may be one of compute."
        )
    yield from found["notes"]
    if found["stopped"]:
        yield f"Stopped: {found['stopped']}. The same command goes on with a larger budget."
    for title, error in found["failed"].items():
        yield f"Failed: {title}: {one_line(error, 300)}"
    spent = found["spent"]
    yield f"In all: {spent['hours']:.2f} hours, {spent['sampled_tokens']:,} tokens written by models."


def _harm(found: Figures) -> Iterator[str]:
    """Yield a section for each arm that lost questions which it had answered correctly; answers that are
    more or less right are counted only.
    """
    for arm in found["arms"]:
        flips = arm.get("flips_from_start")
        if not flips or not flips["lost"] or flips["graded"]:
            continue
        yield f"## Forgotten by {arm['arm']}: {flips['lost']} of {flips['n']} answers of {arm['start']}"
        lines = []
        for flip in flips["lost_questions"][:SHOWN_FLIPS]:
            texts = (one_line(str(flip[k]), 160) for k in ("question", "truth", "old", "new"))
            question, truth, old, new = (_escaped(text) for text in texts)
            lines.append(f"- {question} Right: {truth}. Before: {old}. Now: {new}")
        yield "\n".join(lines)


def _curves(found: Figures) -> Iterator[Table]:
    """Yield the table of accuracy against what was spent for it, which arena.png draws."""
    if not found["arms"]:
        return
    rows = []
    for arm in found["arms"]:
        for r in arm["by_round"]:
            costs = r["costs_so_far"]
            spent = [f"{costs[c]:,.0f}" for c in ("sampled_tokens", "trained_tokens")]
            title = round_title(r["round"])
            rows.append([arm["arm"], title, f"{r['accuracy']:.1%}", *spent, f"{costs['minutes']:.1f}"])
    columns = [
        "arm",
        "after",
        found["measured"],
        "tokens sampled so far",
        "trained on so far",
        "minutes so far",
    ]
    yield Table(f"{found['measured']} against tokens and minutes so far, a seed", columns, rows)


def _shown_rounds(found: Figures) -> list[Any]:
    """Return the arms' starts and the last of their rounds."""
    rounds = list(dict.fromkeys(r["round"] for arm in found["arms"] for r in arm["by_round"]))
    starts = [r for r in rounds if r in ("base", 0)]
    return [*starts, *rounds[len(starts) :][-SHOWN_ROUNDS:]]


def _mean_of(each: list[float], form: str) -> str:
    """Return the mean over seeds and each seed's own value, in the format `form`."""
    mean = f"{sum(each) / len(each):{form}}"
    return f"{mean} ({', '.join(f'{x:{form}}' for x in each)})" if len(each) > 1 else mean


def _p(one: Figures | None) -> str:
    if one is None:
        return ""
    return "< 0.001" if one["p_holm"] < 0.001 else f"{one['p_holm']:.3f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.1%}"


def _escaped(text: str) -> str:
    """Return a text that Markdown shows as it is: what a model wrote is no markup."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\")
    for mark in "|`*_[]!#":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped

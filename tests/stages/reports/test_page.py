"""The report as a file: what it says, that model text is inert in it, and runs that lack something."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import build_recipe
from pipeline.overview import overview
from pipeline.rundir import RunDir
from pipeline.store import files
from stages.reports import page
from stages.reports.page import results, samples, spread
from stages.reports.page.build import render
from stages.reports.page.figures import facts_of, state
from stages.reports.table import round_figures
from tests.jobs.conftest import Built, built, selfloop
from tests.stages.reports.evaluated import evaluated
from tests.stages.reports.finished import Finished
from tests.stages.reports.parsed import Parsed

__all__ = ["built", "selfloop"]
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!-- <script> {{7*7}} {% raw %} <img src=x onerror=alert(2)>",
    "NUL \x00, escape \x1b[31m, separator \u2028, reordered \u202eevil\u202c, \ufeff",
    "first " + "x" * 8_000_000,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(tmp_path_factory.mktemp("page") / "run", hostile=HOSTILE)


@pytest.fixture(scope="module")
def html(finished: Finished) -> str:
    return render([finished.run])


def test_it_says_what_the_table_over_rounds_says(finished: Finished, html: str) -> None:
    text = " ".join(Parsed(html).text.split())
    for r in ("base", 0, 1, 2):
        figures = round_figures(finished.run, r)
        assert figures and f"{figures['greedy']['mean']:.1%}" in text
    gain = figures["against_round_0"]["difference"]
    assert f"Better than round 0: +{100 * gain['mean']:.1f} points." in text
    assert f"{figures['kept']} of {figures['generated']}" in text and "all 2 rounds finished" in text
    assert "wrong answer dropped by verify" in text and "duplicate dropped by publish" in text


def test_a_round_that_published_nothing_is_named(finished: Finished, html: str) -> None:
    figures = [f for r in (0, 1, 2) if (f := round_figures(finished.run, r))]
    assert "Nothing that the model" not in results.headline(figures, "accuracy")["detail"]
    figures[1]["kept"] = 0
    said = results.headline(figures, "accuracy")["detail"]
    assert said.endswith("that the model wrote was trained on in round 1: see why rows were dropped.")


def test_every_row_ends_once_with_its_way(finished: Finished, html: str) -> None:
    run, parsed = finished.run, Parsed(html)
    index = parsed.unpacked("index")
    rounds = overview(run)["rounds"]
    expected = sum(r["stages"]["evaluate"]["out"] for r in rounds)
    for r in rounds[1:]:
        stages = r["stages"]
        expected += stages["publish"]["out"] + sum(sum(s["dropped"].values()) for s in stages.values())
        expected += sum(n for s in stages.values() for step in s["steps"] for n in step["dropped"].values())
    rows = parsed.rows()
    assert len(rows) == len(index["columns"]["round"]) == expected
    ways = Counter(tuple(stage for stage, _ in way) for _, way, _, _ in rows)
    assert ways["task", "generate", "filter", "verify"] > 20, "published, or dropped as a duplicate"
    assert ways["task", "generate", "filter"] > 20, "dropped by verify"
    published = next(
        way for _, way, _, _ in rows if [s for s, _ in way] == ["task", "generate", "filter", "verify"]
    )
    assert published[0][1].keys() >= {"question", "answer"} and published[1][1].keys() == {"text"}
    assert published[2][1] == {} and published[3][1]["verdict"]["correct"] is True


def test_flips_show_the_answer_before(finished: Finished, html: str) -> None:
    parsed = Parsed(html)
    index, rows = parsed.unpacked("index"), parsed.rows()
    flips = [index["values"]["flip"][i] for i in index["columns"]["flip"]]
    rounds = [index["values"]["round"][i] for i in index["columns"]["round"]]
    for r in (1, 2):
        against = files.read_json(finished.run.evaluation(r))["against_previous"]
        here = Counter(flip for flip, round_ in zip(flips, rounds, strict=True) if round_ == r)
        assert (here["won"], here["lost"]) == (against["wrong_to_right"], against["right_to_wrong"])
    won = rows[flips.index("won")][1]
    assert won[-2][0].endswith(" answered") and won[-2][1]["text"] != won[-1][1]["greedy"]["text"]


def test_hostile_text_is_inert(finished: Finished, html: str) -> None:
    parsed = Parsed(html)
    chunks = sum(name.startswith("chunk-") for name in parsed.data)
    assert parsed.tags["script"] == chunks + 2 and parsed.tags["img"] == 0 and parsed.tags["style"] == 1
    assert (
        not {name for name in parsed.attributes if name.startswith("on")} and "style" not in parsed.attributes
    )
    assert all(re.fullmatch("[A-Za-z0-9+/=]+", parsed.data[n]) for n in parsed.data if n)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]", html)
    assert len(html) < 1_000_000
    texts = [way[1][1]["text"] for _, way, _, _ in parsed.rows() if len(way) > 1 and "text" in way[1][1]]
    assert HOSTILE[0] in texts and HOSTILE[1] in texts, "shown as it is"
    assert "NUL \\x00, escape \\x1b[31m, separator \\u2028, reordered \\u202eevil\\u202c, \\ufeff" in texts
    [long] = [text for text in texts if text.startswith("first xx")]
    assert len(long) < 21_000 and long.endswith("more characters)")
    assert HOSTILE[0] in parsed.text, "as an example of what was dropped"


def test_policy_allows_the_page_itself_and_nothing_else(html: str) -> None:
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1].replace(
        "&#39;", "'"
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
    assert "connect-src" not in policy
    assert "connect-src 'self'" not in html and not re.search('(src|href)="?https?:', html)


def test_large_runs_are_sampled_and_all_flips_kept(finished: Finished) -> None:
    rounds = overview(finished.run)["rounds"]
    every = samples.choose(finished.run, rounds)
    few = samples.choose(finished.run, rounds, 60)
    assert few.totals == every.totals and len(every.rows) == every.totals.total()
    taken, flips = Counter(s.kind for s in few.rows), sum(n for kind, n in few.totals.items() if kind.flip)
    assert sum(n for kind, n in taken.items() if kind.flip) == flips > 10
    assert (
        len(few.rows) <= max(60, flips)
        and len({s.id for s in few.rows if not s.kind.flip}) >= len(few.rows) - 2 * flips
    )
    parsed = Parsed(render([finished.run], rows=60))
    assert f"{len(few.rows)} of {every.totals.total()} rows" in " ".join(parsed.text.split())


def test_quotas_leave_no_reason_out() -> None:
    kinds = [samples.Kind(1, "verify", "dropped", reason) for reason in ("common", "rare", "middling")]
    flips = samples.Kind(1, "evaluate", "right", "", "won")
    found = samples.quotas(Counter(dict(zip(kinds, (10_000, 3, 80), strict=True)) | {flips: 40}), 100)
    assert found[flips] == 40 and found[kinds[1]] == 3 and found[kinds[2]] == 28 and found[kinds[0]] == 29


def test_two_runs_are_compared_and_runs_without_a_baseline_are_told(
    finished: Finished, tmp_path: Path
) -> None:
    other = Finished(tmp_path / "other", accumulate={"policy": "replace"}, seed=3)
    text = " ".join(Parsed(render([finished.run, other.run])).text.split())
    assert re.search("“direct, replace” (is|does)[^.]* “direct, all” in round 2: [^ ]+ points", text)
    assert "Held-out: points over direct, all" in text
    bare = evaluated(tmp_path / "bare", {1: {"a": True}}, seed=5)
    text = Parsed(render([finished.run, bare])).text
    assert "cannot be compared" in text and "there is no baseline" in text


def test_runs_in_any_state(built: Built, run: RunDir, make_recipe: Any) -> None:
    under_way = " ".join(Parsed(render([built.run])).text.split())
    assert (
        "round 2: generate under way, 1 of 3 rows" in under_way and "No round is evaluated yet." in under_way
    )
    run.freeze(make_recipe())
    fresh = " ".join(Parsed(render([run])).text.split())
    assert "not begun" in fresh and "Nothing has been done yet." in fresh


def test_a_run_of_an_older_version(finished: Finished, tmp_path: Path) -> None:
    """Without what later versions added, a stage that was removed, and a method that is not here."""
    shutil.copytree(finished.run.root, tmp_path / "old")
    run = RunDir(tmp_path / "old")
    for r in run.rounds():
        facts = files.read_json(run.evaluation(r))
        files.write_json(
            run.evaluation(r), {k: v for k, v in facts.items() if k not in ("parsed", "mean_tokens")}
        )
    for path in Path(run.root).glob("rounds/*/train/train.json"):
        result = json.loads(path.read_text())
        path.write_text(
            json.dumps({k: v for k, v in result.items() if k not in ("hyperparameters", "kind", "rewards")})
        )
    text = Path(run.path("run.yaml")).read_text().replace("name: direct", "name: their_module:Theirs")
    Path(run.path("run.yaml")).write_text(text)
    shutil.rmtree(Path(run.stage(1, "filter")))
    assert "Better than round 0" in Parsed(render([run])).text


def test_state_of_a_branch_is_that_of_its_own_rounds(finished: Finished) -> None:
    rounds = overview(finished.run)["rounds"]
    rounds[1]["train"] = {"state": "not begun", "result": None, "progress": None}
    assert state(rounds)["done"]
    rounds[-1]["stages"]["evaluate"]["state"] = "not begun"
    assert state(rounds)["text"] == "round 2: evaluate comes next"


def test_the_loop_goes_on_if_it_cannot_be_written(
    finished: Finished, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr("stages.reports.page.build.facts_of", lambda run: 1 / 0)
    page.try_write([finished.run], finished.run.root)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "report.html was not written (ZeroDivisionError" in said
    assert not files.exists(finished.run.path("report.html"))


def test_command(finished: Finished, selfloop: Any, tmp_path: Path) -> None:
    done = selfloop("report", finished.run.root, "-o", tmp_path / "r.html", "--rows", 10)
    assert done.status == 0 and f"written: {tmp_path / 'r.html'} (" in done.text
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"], "no temporary file is left"
    for arguments, says in (
        (["report", tmp_path / "nowhere"], "no run here"),
        (["report", finished.run.root, "-o", tmp_path], "a folder; expected the file to write"),
        (["report", finished.run.root, finished.run.root], "named twice"),
    ):
        refused = selfloop(*arguments)
        assert refused.status == 2 and says in refused.text and "Traceback" not in refused.text


def test_reading_changes_nothing(finished: Finished) -> None:
    before = {p: p.stat().st_mtime_ns for p in Path(finished.run.root).rglob("*")}
    facts_of(finished.run)
    assert {p: p.stat().st_mtime_ns for p in Path(finished.run.root).rglob("*")} == before


def test_texts_that_narrow_are_seen() -> None:
    varied = [
        f"{a} {b} walked to the {c} on a {d} morning"
        for a, b, c, d in zip("abcdefgh", "stuvwxyz", "ijklmnop", "qrstuvwx", strict=True)
    ]
    alike = ["the same old story is told once more"] * 8
    words = {
        name: [spread.split(text) for text in texts] for name, texts in (("varied", varied), ("alike", alike))
    }
    assert spread.self_bleu(words["alike"]) == pytest.approx(1) and spread.self_bleu(words["varied"]) < 0.6
    assert spread.distinct(words["alike"], 2, 40) < 0.2 < 0.5 < spread.distinct(words["varied"], 2, 40)
    assert spread.self_bleu(words["alike"][:1]) is None and spread.distinct([], 1, 10) is None


def test_self_bleu_is_that_of_its_definition() -> None:
    texts = [t.split() for t in ("a b c d e", "a b c d f", "x b c d a b", "a b c d e a b c d e")]
    expected = []
    for i, text in enumerate(texts):
        precision = []
        for n in spread.ORDERS:
            mine = Counter(zip(*(text[k:] for k in range(n)), strict=False))
            others = [
                Counter(zip(*(t[k:] for k in range(n)), strict=False)) for j, t in enumerate(texts) if j != i
            ]
            matched = sum(min(c, max(o[g] for o in others)) for g, c in mine.items())
            precision.append(max(matched, 0.5) / mine.total())
        expected.append((precision[0] * precision[1] * precision[2] * precision[3]) ** 0.25)
    assert spread.self_bleu(texts) == pytest.approx(sum(expected) / len(expected))


def test_build_recipe_is_shown_escaped(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    name = "</pre><script>alert(1)</script>"
    run.freeze(
        build_recipe(
            {"name": "n", "engine": {"kind": "scripted"}, "tasks": {"source": "jsonl", "path": name}}
        )
    )
    parsed = Parsed(render([run]))
    assert parsed.tags["script"] == 2 and name in parsed.text

"""The corpus that ships: what its questions ask is in its documents.

Nothing of the real world is in the invented ones.
"""

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Source, load_recipe
from stages.tasks import read_tasks

COUNTRIES = Path(__file__).parent.parent / "data" / "countries"


@pytest.fixture(scope="module")
def make() -> Any:
    """The program that made the files, as a module."""
    spec = importlib.util.spec_from_file_location("make_countries", COUNTRIES / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(kind: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    documents = {
        path.stem: path.read_text() for path in sorted((COUNTRIES / kind / "documents").glob("*.txt"))
    }
    return documents, [
        json.loads(line) for line in (COUNTRIES / kind / "questions.jsonl").read_text().splitlines()
    ]


@pytest.mark.parametrize("kind", ["real", "fiction"])
def test_every_answer_stands_in_its_document_and_in_no_other_option(kind: str) -> None:
    documents, questions = read(kind)
    assert len(documents) == 40 and len(questions) == 400 and sum(map(len, documents.values())) < 300_000
    assert [q["document"] for q in questions] == [code for code in documents for _ in range(10)], (
        "the first n documents, the first 10 n questions"
    )
    for q in questions:
        right = q["options"]["ABCD".index(q["answer"])]
        title = documents[q["document"]].split("\n")[0]
        assert right in documents[q["document"]] and title in q["question"]
        assert kind == "real" or not any(title in option for option in q["options"])
        assert len(set(q["options"])) == 4
    letters = Counter(q["answer"] for q in questions)
    assert all(70 <= letters[letter] <= 130 for letter in "ABCD"), letters


@pytest.mark.parametrize("kind", ["real", "fiction"])
def test_no_option_can_be_ruled_out_because_it_was_never_read(kind: str) -> None:
    documents, questions = read(kind)
    texts = list(documents.values())
    for start in range(0, 40, 8):
        read_there, asked = "\n".join(texts[start : start + 8]), questions[start * 10 : start * 10 + 80]
        assert not [option for q in asked for option in q["options"] if option not in read_there]


def test_recipes_ask_about_whole_groups() -> None:
    recipe = load_recipe(COUNTRIES.parent.parent / "jobs" / "recipes" / "entigraph.yaml")
    documents = recipe.tasks.limit
    assert documents % 8 == 0 and recipe.held_out.source.limit == 10 * documents


def test_invented_documents_name_no_real_country() -> None:
    fiction, real = read("fiction"), read("real")
    text = " ".join(fiction[0].values())
    names = [document.split("\n")[0] for document in real[0].values()]
    assert (
        not [name for name in names if f" {name} " in text] and "France" not in text and "Atlas" not in text
    )
    titles = [document.split("\n")[0] for document in fiction[0].values()]
    assert len(set(titles)) == 40
    assert not any(
        other in document
        for title, document in zip(titles, fiction[0].values(), strict=True)
        for other in titles
        if other != title
    )


def test_questions_are_read_as_tasks() -> None:
    source = Source(
        source="jsonl",
        path=str(COUNTRIES / "fiction" / "questions.jsonl"),
        answer_type="choice",
        columns={"id": "id", "options": "options"},
    )
    assert len(read_tasks(source, 0).rows) == 400


def entry(**names: str) -> dict[str, Any]:
    return {
        "Government": {
            "Country name": {f"conventional {form} form": {"text": text} for form, text in names.items()}
        }
    }


@pytest.mark.parametrize(
    ("short", "long", "name"),
    [
        ("none", "Dominican Republic", "Dominican Republic"),
        ("The Dominican", "Dominican Republic", "Dominican Republic"),
        ("", "X", "X"),
        ("Chad", "Republic of Chad", "Chad"),
        ("Burma (Myanmar)", "Union of Burma", "Burma"),
    ],
)
def test_a_countrys_name_is_not_none_and_not_clipped(make: Any, short: str, long: str, name: str) -> None:
    assert make.name_of(entry(short=short, long=long)) == name


def test_markup_does_not_get_into_a_text(make: Any) -> None:
    raw = {
        "a": {"text": "<p><strong>C&ocirc;te</strong>&nbsp;d&amp;rsquo;Ivoire</p> low<br />high &lt;5&gt;"}
    }
    assert make.text_at(raw, ("a",)) == "C\u00f4te d'Ivoire\nlow\nhigh" and make.text_at(
        raw, ("a", "b")
    ) == "" == make.text_at(raw, ("x", "y"))
    assert not [
        name
        for kind in ("real", "fiction")
        for text in read(kind)[0].values()
        for name in ("<p>", "<br", "&amp;", "&nbsp;", "</")
        if name in text
    ]


def test_every_invented_value_is_invented_or_another_countrys(make: Any) -> None:
    facts = {
        f"c{i}": {field.name: f"Value {i} of {field.name}, {100 + i} m" for field in make.FACTS}
        | {"country": f"Realland{i}"}
        for i in range(12)
    }
    made = make.fiction(facts, ["Realland1"])
    assert made == make.fiction(facts, ["Realland1"]) and len({f["country"] for f in made.values()}) == 12
    assert not any("Realland" in text for f in made.values() for text in f.values())
    for field in ("terrain", "crops", "independence"):
        assert len({f[field] for f in made.values()}) == 12, "a shuffle: no value twice"
    asked = make.questions({name: f for name, f in made.items()})
    assert Counter(q["document"] for q in asked) == dict.fromkeys(made, 10)

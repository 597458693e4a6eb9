"""The text of chat templates: where it comes from, and what selfloop adds to it."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.chat.template import Renderer, additions, effective, read_template, training_template, variables
from pipeline.config import load_recipe
from pipeline.errors import ConfigError
from tests.chat.stand_in import shipped_templates, stand_in, trl_template

ROLES = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{{ x }}"
SYSTEM, USER, SAID = (
    {"role": role, "content": text} for role, text in (("system", "S"), ("user", "U"), ("assistant", "A"))
)


def rendered(template: str, messages: list[dict[str, str]]) -> str:
    return Renderer(stand_in(ROLES), template).text(messages)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([SYSTEM, USER], "<user>S\n\nU"),
        ([USER, SAID], "<user>U<assistant>A"),
        ([SYSTEM, USER, SAID, USER], "<user>S\n\nU<assistant>A<user>U"),
        ([SYSTEM, SYSTEM, USER], "<user>S\n\nS\n\nU"),
        ([SYSTEM, SAID, USER], "<user>S<assistant>A<user>U"),
        ([USER, SYSTEM], "<user>U<user>S"),
    ],
)
def test_system_messages_go_in_front_of_the_user_s(messages: Any, expected: str) -> None:
    folded = effective(ROLES, {}, fold=True)
    assert rendered(folded, messages) == expected
    assert (
        rendered(effective(folded, {}, fold=True), messages) == expected
    )  # of a model that was saved with it


@pytest.mark.parametrize("value", [False, None, 0.5, 'a "b"\n\\c {% x %}', ["ä", "😀"], {"k": [True, None]}])
def test_variables_keep_their_values(value: Any) -> None:
    template = effective("\n{{ x | tojson }}", {"x": value})
    assert json.loads(Renderer(stand_in(ROLES), template).text([USER])) == value


def test_variables_are_defaults_and_the_template_stays_as_it_is() -> None:
    template = effective("\n{{ x }}", {"x": 1})
    assert rendered(template, [USER]) == "\n1"
    assert rendered(effective(template, {"x": 2}), [USER]) == "\n2"
    assert effective(ROLES, {}) == ROLES and additions(template)[1] == "\n{{ x }}"


@pytest.mark.parametrize("template", shipped_templates().values(), ids=shipped_templates())
def test_additions_change_nothing_where_there_is_nothing_to_change(template: str) -> None:
    own, more = (
        Renderer(stand_in(ROLES), text) for text in (template, effective(template, {}, fold=True, apart=True))
    )
    for messages, generation in (([USER], True), ([USER, SAID], False), ([USER, SAID, USER], True)):
        if not own.refusal(messages, generation):
            assert more.text(messages, generation) == own.text(messages, generation)


def test_a_file_a_name_of_trl_s_or_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.jinja").write_text(ROLES)
    assert read_template("mine.jinja", tmp_path) == read_template(ROLES, tmp_path) == ROLES
    assert read_template("qwen3_training", tmp_path) == trl_template("qwen3_training")
    assert read_template(None, tmp_path) is None
    with pytest.raises(ConfigError, match=r"'qwen3_trainin' is neither .* Did you mean 'qwen3_training'\?"):
        read_template("qwen3_trainin", tmp_path)
    (tmp_path / "bytes.jinja").write_bytes(b"\xff{{")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_template("bytes.jinja", tmp_path)


def test_the_recipe_holds_the_text(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text(ROLES)
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: r\nmodel: {chat_template: mine.jinja}\ntasks: {source: jsonl, path: t.jsonl}\n")
    assert load_recipe(recipe).model.chat_template == ROLES
    assert load_recipe(recipe, ["model.chat_template=qwen3"]).model.chat_template == trl_template("qwen3")
    with pytest.raises(ConfigError, match=r"chat_template_kwargs: 'messages' cannot be set"):
        load_recipe(recipe, ["model.chat_template_kwargs.messages=1"])


def test_what_a_template_reads() -> None:
    assert variables("{% generation %}{{ a }}{% endgeneration %}{% set b = 1 %}{{ b }}") == {"a"}
    with pytest.raises(ConfigError, match=r"not a Jinja template: .*\(line 2\)"):
        variables("\n{% if %}")


def test_trl_s_version_for_training_is_found() -> None:
    assert training_template(trl_template("qwen3")) == "qwen3_training"
    assert training_template(ROLES) is None

"""The text of chat templates: where it comes from, what it reads, and what selfloop puts in front of it."""

import importlib.util
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, meta
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipeline.engines.base import Message
from pipeline.errors import ConfigError, suggest

# What a template raises for messages that it is not made for.
REFUSALS = (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError)
SWITCHES = ("enable_thinking", "thinking")  # variables with which templates turn thoughts on and off
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")  # TRL's markers, which are no plain Jinja
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
_END = "{{- '' ~ '' }}"  # after a block, Jinja would cut the template's first line break
# Puts each system message in front of the next user turn.
_FOLD = """\
{%- set folded = namespace(turns=[], system='') %}\
{%- for turn in messages %}\
{%- if turn.role == 'system' %}{%- set folded.system = folded.system + turn.content + '\\n\\n' %}\
{%- elif folded.system and turn.role == 'user' %}\
{%- set folded.turns = folded.turns + [{'role': 'user', 'content': folded.system + turn.content}] %}\
{%- set folded.system = '' %}\
{%- elif folded.system %}\
{%- set folded.turns = folded.turns + [{'role': 'user', 'content': folded.system|trim}, turn] %}\
{%- set folded.system = '' %}\
{%- else %}{%- set folded.turns = folded.turns + [turn] %}{%- endif %}\
{%- endfor %}\
{%- if folded.system %}\
{%- set folded.turns = folded.turns + [{'role': 'user', 'content': folded.system|trim}] %}\
{%- endif %}\
{%- set messages = folded.turns %}"""

# Hands a thought that an answer begins with to templates that take it apart, under any of its names.
_APART = """\
{%- set apart = namespace(turns=[]) %}\
{%- for turn in messages %}\
{%- set halves = turn.content.split('</think>', 1) %}\
{%- if turn.role == 'assistant' and turn.content.startswith('<think>') and halves|length == 2 %}\
{%- set thought = halves[0].replace('<think>', '', 1).strip() %}\
{%- set apart.turns = apart.turns + [{'role': 'assistant', 'content': halves[1].lstrip(), \
'reasoning_content': thought, 'reasoning': thought, 'thinking': thought}] %}\
{%- else %}{%- set apart.turns = apart.turns + [turn] %}{%- endif %}\
{%- endfor %}\
{%- set messages = apart.turns %}"""


def read_template(value: Any, beside: Path) -> Any:
    """Return a recipe's model.chat_template as its text, so that the frozen recipe holds what was used.

    `value` is a file (relative to the working directory or to `beside`, the recipe's folder), the name of one
    of TRL's templates, or the text itself. Raises ConfigError for a file that cannot be read.
    """
    if not isinstance(value, str) or "{{" in value or "{%" in value:
        return value  # pydantic explains what is expected
    files = [Path(value), beside / value, *(_trl_templates() / f"{value}.jinja" for _ in value.split() if _)]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        known = [file.stem for file in _trl_templates().glob("*.jinja")]
        raise ConfigError(
            f"model.chat_template: {value!r} is neither a Jinja file nor a template of TRL's."
            f"{suggest(value, known)}"
        )
    try:
        return found.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"model.chat_template: {found} cannot be read as UTF-8 text: {e}") from None


def variables(template: str) -> set[str]:
    """Return the variables that a template reads. Raises ConfigError for a text that is no Jinja."""
    environment = ImmutableSandboxedEnvironment(extensions=[loopcontrols])
    try:
        return meta.find_undeclared_variables(environment.parse(_GENERATION.sub("", template)))
    except TemplateError as e:
        line = getattr(e, "lineno", None)
        raise ConfigError(
            f"model.chat_template: not a Jinja template: {e}{f' (line {line})' if line else ''}"
        ) from None


def effective(template: str, kwargs: Mapping[str, Any], fold: bool = False, apart: bool = False) -> str:
    """Return the template with `kwargs` as the defaults of its variables.

    `fold` puts system messages in front of the user's, `apart` hands thoughts over in keys of their own. With
    nothing to add it is the template itself.
    """
    added = "".join(
        f"{{%- if {name} is not defined %}}{{%- set {name} = {_literal(value)} %}}{{%- endif %}}"
        for name, value in sorted(kwargs.items())
    )
    added += (_FOLD if fold else "") + (_APART if apart else "")
    return f"{added}{_END}{template}" if added else template


def additions(template: str) -> tuple[str, str]:
    """Divide an effective template into what was added and the rest."""
    added, end, rest = template.partition(_END)
    ours = end and added.startswith(("{%- if ", "{%- set "))
    return (added + end, rest) if ours else ("", template)


def training_template(template: str) -> str | None:
    """Return the name of TRL's version for training of a model's template, None if it has none."""
    for file in sorted(_trl_templates().glob("*_training.jinja")):
        original = file.with_name(file.name.replace("_training", ""))
        if original.is_file() and original.read_text(encoding="utf-8").strip() == template.strip():
            return file.stem
    return None


def load_tokenizer(path: str, template: str = "", trust_remote_code: bool = False) -> Any:
    """Return the tokenizer in a model's folder, with `template` in place of its own unless that is "".

    None if the folder holds no tokenizer.
    """
    if not any((Path(path) / name).exists() for name in _TOKENIZER_FILES):
        return None
    from transformers import AutoTokenizer  # takes a second, which stages do without

    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    if template:
        tokenizer.chat_template = template
    return tokenizer


class Renderer:
    """Renders conversations with one template, in place of the tokenizer's own."""

    def __init__(self, tokenizer: Any, template: str) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.name_or_path = tokenizer.name_or_path

    def apply_chat_template(self, messages: list[Message], **options: Any) -> Any:
        """As the tokenizer's."""
        return self.tokenizer.apply_chat_template(messages, chat_template=self.template, **options)

    def text(self, messages: list[Message], generation: bool = False) -> str:
        """Return a conversation as text. Raises one of REFUSALS where the template refuses it."""
        return self.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)

    def refusal(self, messages: list[Message], generation: bool = False) -> str:
        """Return why the template cannot render a conversation; "" if it can."""
        try:
            self.text(messages, generation)
        except REFUSALS as e:
            return str(e) or type(e).__name__
        return ""


def _literal(value: Any) -> str:
    """Return a JSON value as a Jinja literal."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(str(k))}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


@lru_cache(maxsize=1)
def _trl_templates() -> Path:
    """Return the folder of TRL's templates, without importing TRL."""
    spec = importlib.util.find_spec("trl")
    return Path(spec.origin).parent / "chat_templates" if spec and spec.origin else Path()

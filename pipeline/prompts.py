"""Prompt templates: prompts/<method>/<step>.jinja, rendered to chat messages in a sandbox.

A template is divided into turns by lines that hold only [[system]], [[user]] or [[assistant]]. It is divided before it is
rendered, so that no text that goes in (a question, a model's answer) can open a turn of its own.
"""

import re
from functools import cache

from jinja2 import FileSystemLoader, StrictUndefined, Template, TemplateError, TemplateNotFound, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipeline.engines.base import Message
from pipeline.errors import ConfigError
from pipeline.places import PROMPTS

FOLDER = PROMPTS
TURN = re.compile(r"^\[\[(system|user|assistant)\]\]\s*$", re.MULTILINE)


def source(step: str) -> str:
    """Return the text of the template `step` ("<method>/<step>"), as it goes into a stage's fingerprint."""
    return _environment().loader.get_source(_environment(), _file(step))[0]


def render(step: str, **variables: object) -> list[Message]:
    """Render the template `step` to messages. Raises ConfigError naming the template and what is wrong with it."""
    try:
        messages = [
            {"role": role, "content": template.render(**variables).strip()} for role, template in _turns(step)
        ]
    except TemplateError as e:
        raise ConfigError(f"prompts/{_file(step)}: {e}") from e
    return [m for m in messages if m["content"]]


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _file(step: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]+(/[a-z0-9_]+)*", step):
        raise ConfigError(f"{step!r} is not the name of a prompt: expected <method>/<step> in lower case")
    return f"{step}.jinja"


@cache
def _turns(step: str) -> list[tuple[str, Template]]:
    try:
        text = source(step)
    except TemplateNotFound:
        raise ConfigError(f"prompts/{_file(step)}: no such prompt template") from None
    parts = TURN.split(text)
    if len(parts) < 3 or parts[0].strip():
        raise ConfigError(f"prompts/{_file(step)}: expected to begin with a line [[system]] or [[user]]")
    if next(
        _environment().parse(text).find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)),
        None,
    ):
        raise ConfigError(
            f"prompts/{_file(step)}: include, import and extends are not for prompts: a stage's fingerprint is made of this one file"
        )
    templates = [
        (role, _environment().from_string(body)) for role, body in zip(parts[1::2], parts[2::2], strict=True)
    ]
    for _, template in templates:
        template.globals = dict(
            template.globals
        )  # a ChainMap, which is copied for every rendering: a third of its time
    return templates

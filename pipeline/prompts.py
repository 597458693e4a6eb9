"""Prompt templates: <method>/<step>.jinja, rendered in a sandbox to chat messages.

A template is looked up in the recipe's `prompts` first, then in the folder `prompts/` beside the method's own
module, then among those that ship with selfloop. Lines that hold only [[system]], [[user]] or [[assistant]]
divide it into turns. It is divided before it is rendered, so that no text that is filled in (a question, a
model's answer) can open a turn of its own.
"""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipeline import places, registry
from pipeline.engines.base import Message
from pipeline.errors import ConfigError, suggest

FOLDER = places.PROMPTS
TURN = re.compile(r"^\[\[(system|user|assistant)\]\]\s*$", re.MULTILINE)
NAME = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)*")
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


class Prompts:
    """The templates of one run."""

    def __init__(
        self, replaced: Mapping[str, str] | None = None, folders: Sequence[Path] = (FOLDER,)
    ) -> None:
        """`replaced` maps template names to their text; `folders` are searched in order for the others."""
        self._replaced, self._folders = dict(replaced or {}), tuple(folders)
        self._turns: dict[str, list[tuple[str, Template]]] = {}

    def __reduce__(self) -> Any:
        return (Prompts, (self._replaced, self._folders))  # compiled templates cannot be pickled

    @classmethod
    def of(cls, recipe: Any) -> "Prompts":
        """Return the templates that a recipe works with."""
        method = registry.resolve("method", recipe.method["name"])
        return cls(recipe.prompts, (Path(inspect.getfile(method)).parent / "prompts", FOLDER))

    def source(self, step: str) -> str:
        """Return the text of the template `step`, as it goes into a stage's fingerprint.

        Raises ConfigError if there is none.
        """
        if not NAME.fullmatch(step):
            raise ConfigError(f"{step!r} is not a template name: expected <method>/<step> in lower case")
        if step in self._replaced:
            return self._replaced[step]
        for folder in self._folders:
            try:
                return (folder / f"{step}.jinja").read_text(encoding="utf-8")
            except (FileNotFoundError, NotADirectoryError):
                continue
        looked = " and ".join(str(folder) for folder in self._folders)
        raise ConfigError(f"no prompt template {step}.jinja in {looked}.{suggest(step, self.names())}")

    def check(self, step: str) -> None:
        """Raise ConfigError if there is no template `step`, or if it cannot be parsed."""
        _parse(self._where(step), self.source(step))

    def render(self, step: str, **variables: object) -> list[Message]:
        """Render the template `step` to messages; empty turns are left out.

        Raises ConfigError naming template and cause.
        """
        if step not in self._turns:
            self._turns[step] = _parse(self._where(step), self.source(step))
        try:
            messages = [
                {"role": role, "content": t.render(**variables).strip()} for role, t in self._turns[step]
            ]
        except TemplateError as e:
            raise ConfigError(f"{self._where(step)}: {e}") from e
        return [m for m in messages if m["content"]]

    def names(self) -> list[str]:
        """Return the names of all templates there are."""
        found = {str(p.relative_to(f).with_suffix("")) for f in self._folders for p in f.rglob("*.jinja")}
        return sorted(found | self._replaced.keys())

    def check_replaced(self) -> None:
        """Raise ConfigError for a replacement that replaces nothing, cannot be parsed, or uses variables the
        original has not.
        """
        originals = Prompts(folders=self._folders)
        for step, text in self._replaced.items():
            original = originals.source(step)
            _parse(self._where(step), text)
            given = _variables(original)
            if unknown := sorted(_variables(text) - given):
                raise ConfigError(
                    f"{self._where(step)} uses {', '.join(unknown)}; this template is given: "
                    f"{', '.join(sorted(given)) or 'nothing'}"
                )

    def _where(self, step: str) -> str:
        return f"prompts: {step} (of the recipe)" if step in self._replaced else f"prompts/{step}.jinja"


SHIPPED = Prompts()
_current: ContextVar[Prompts] = ContextVar("prompts", default=SHIPPED)


@contextmanager
def using(prompts: Prompts) -> Iterator[None]:
    """Make `render` use these templates within the block, for code without a recipe (environments)."""
    token = _current.set(prompts)
    try:
        yield
    finally:
        _current.reset(token)


def render(step: str, **variables: object) -> list[Message]:
    """Render with the templates of `using`, or with those that ship."""
    return _current.get().render(step, **variables)


def read_replacements(value: Any, beside: Path) -> Any:
    """Return a recipe's `prompts` with files replaced by their text, so that the frozen recipe holds what was
    used.

    `value` is a folder with <method>/<step>.jinja files, or maps template names to files, texts, or names of
    other shipped templates (direct/solve: direct/short). Paths are relative to the working directory or to
    `beside`, the recipe's folder. Raises ConfigError for a file that cannot be read.
    """
    if isinstance(value, str):
        folder = _existing(value, beside)
        return {str(p.relative_to(folder).with_suffix("")): _read(p) for p in sorted(folder.rglob("*.jinja"))}
    if not isinstance(value, dict):
        return value  # pydantic explains what is expected
    return {
        step: _read(_existing(given, beside)) if isinstance(given, str) and not TURN.search(given) else given
        for step, given in value.items()
    }


def _existing(path: str, beside: Path) -> Path:
    shipped = [FOLDER / f"{path}.jinja"] if NAME.fullmatch(path) else []
    if found := next((p for p in (*shipped, Path(path), beside / path) if p.exists()), None):
        return found
    raise ConfigError(
        f"prompts: {path!r} is neither a file, nor a shipped template's name, nor the text of a template "
        f"(which begins with a line [[user]]).{suggest(path, SHIPPED.names())}"
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"prompts: {path} cannot be read as UTF-8 text: {e}") from None


def _parse(where: str, text: str) -> list[tuple[str, Template]]:
    parts = TURN.split(text)
    if len(parts) < 3 or parts[0].strip():
        raise ConfigError(f"{where}: expected to begin with a line [[system]] or [[user]]")
    try:
        forbidden = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
        if next(_ENVIRONMENT.parse(text).find_all(forbidden), None):
            raise ConfigError(
                f"{where}: include, import and extends are not allowed: the fingerprint covers this one file"
            )
        templates = [
            (role, _ENVIRONMENT.from_string(body))
            for role, body in zip(parts[1::2], parts[2::2], strict=True)
        ]
    except TemplateError as e:
        raise ConfigError(f"{where}: {e}") from e
    for _, template in templates:
        template.globals = dict(
            template.globals
        )  # as a ChainMap it is copied on every rendering, a third of the time
    return templates


def _variables(text: str) -> set[str]:
    return meta.find_undeclared_variables(_ENVIRONMENT.parse(text))

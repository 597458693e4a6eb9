"""Verifiers that have settings: the base of their sections, and the type of a setting for any verifier.

A verifier is named by a text (`ground_truth`, `my_module:function`) or by a section with its settings
(`{kind: judge, threshold: 7}`). What a kind's settings are, its class says: `Config`, a VerifierSection.
"""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from pipeline import registry
from pipeline.config.section import Section
from pipeline.engines.base import EngineSection
from pipeline.errors import ConfigError, suggest

_CALLED_BY = ("all", "any", "weighted")  # kinds whose section need not repeat its kind: {all: [...]}


class VerifierSection(Section):
    """Base of the sections of verifiers; unknown keys are errors."""

    alone: ClassVar[bool] = False
    """Whether it cannot be one of several verifiers, as it compares answers with each other."""
    kind: str

    def check(self, recipe: Any) -> None:
        """Raise ConfigError if it cannot work with the rest of the recipe."""

    def identity(self) -> dict[str, Any]:
        """Return what verdicts depend on, as JSON for fingerprints."""
        return _identity(self)

    def described(self) -> str:
        """Return the verifier in a few words, for the dataset card."""
        return self.kind


def verifier_class(kind: str) -> Any:
    """Return the class of verifiers that `kind` names. Raises ConfigError if it names none with settings."""
    found = registry.resolve("verifier", kind)
    if _section_of(found) is None:
        known = [
            name for name in registry.names("verifier") if _section_of(registry.resolve("verifier", name))
        ]
        raise ConfigError(
            f"verifier {kind!r} has no settings; write verifier: {kind}.{suggest(kind, known)} "
            f"With settings: {', '.join(known)}; or a class of your own with a Config, as module:Name."
        )
    return found


def verifier_section(data: dict[str, Any]) -> type[VerifierSection]:
    """Return the class of the verifier section in `data`. Raises ConfigError."""
    return verifier_class(_kind(data)).Config


def _kind(data: dict[str, Any]) -> str:
    named = data.get("kind") or next((name for name in _CALLED_BY if name in data), None)
    if not isinstance(named, str):
        raise ConfigError(
            "a verifier with settings names its kind: expected {kind: judge, ...}, {all: [...]}, "
            "{any: [...]} or {weighted: [...]}"
        )
    return named


def _section_of(found: Any) -> type[VerifierSection] | None:
    config = getattr(found, "Config", None)
    return config if isinstance(config, type) and issubclass(config, VerifierSection) else None


def _read(value: Any) -> Any:
    if isinstance(value, VerifierSection):
        return value
    if isinstance(value, str):  # a kind by its name alone has its default settings
        shipped = value in registry.names("verifier") and _section_of(registry.resolve("verifier", value))
        return shipped.model_validate({"kind": value}) if shipped else value
    if not isinstance(value, dict):
        raise ValueError("expected a name, such as ground_truth, or a section, such as {kind: judge}")
    try:
        section = verifier_section(value)
    except ConfigError as e:
        problem = PydanticCustomError("verifier_kind", "{problem}", {"problem": str(e)})
        details = InitErrorDetails(type=problem, loc=("kind",), input=value.get("kind"))
        raise ValidationError.from_exception_data("verifier", [details]) from None
    return section.model_validate({"kind": _kind(value), **value})


def _identity(value: Any) -> Any:
    if isinstance(value, EngineSection):
        return value.identity()
    if isinstance(value, BaseModel):
        fields = {name: _identity(getattr(value, name)) for name in type(value).model_fields}
        return {name: field for name, field in fields.items() if field is not None}
    if isinstance(value, list | tuple):
        return [_identity(item) for item in value]
    return value


AnyVerifier = Annotated[str | SerializeAsAny[VerifierSection], BeforeValidator(_read)]

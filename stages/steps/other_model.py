"""A model that a method asks in place of the round's, as a section of its options."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from pipeline.config import AnyEngine, Recipe
from pipeline.errors import ConfigError
from pipeline.stage import UNTRAINED, Seat


def not_served(name: str, model: str | None, instead: str) -> ConfigError:
    """Return the error of a local model that is to be asked of an endpoint; `instead` says where it could get
    an engine, and what else to do.
    """
    return ConfigError(
        f"{name}: model {model} is served by vLLM, and the recipe's engine is an endpoint, which answers "
        f"with its own model. Add engine: {{kind: vllm}} {instead}."
    )


class OtherModel(BaseModel):
    """A model by name, with the recipe's engine or one of its own; or an endpoint."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model: str | None = None
    """untrained: the base model. Otherwise a folder or Hub id. An endpoint answers with its own model."""
    engine: AnyEngine | None = None
    """An engine of its own, such as an endpoint. Default: the recipe's engine, with this model."""

    @model_validator(mode="after")
    def _says_who(self) -> "OtherModel":
        if self.model is None and not self._is_endpoint():
            raise ValueError("expected model (a folder or Hub id, or untrained) or engine (an endpoint)")
        if self.model is not None and self._is_endpoint():
            raise ValueError(
                f"the endpoint in engine answers with its own model: leave out model ({self.model})"
            )
        return self

    def _is_endpoint(self) -> bool:
        return self.engine is not None and self.engine.implementation.is_endpoint

    def check(self, recipe: Recipe, option: str) -> None:
        """Raise ConfigError for a local model that the recipe's endpoint would never serve."""
        if self.engine is None and recipe.engine.implementation.is_endpoint:
            raise not_served(option, self.model, f"to {option}, or leave it out")

    def seat(self, option: str) -> Seat:
        """Return the seat of a stage that asks this model; `option` is what messages call it."""
        return Seat(self.model or UNTRAINED, self.engine, option)

    def identity(self) -> dict[str, Any]:
        """Return what its answers depend on, as JSON for fingerprints."""
        return {"model": self.model, "engine": self.engine.identity() if self.engine else None}

"""Engines of one's own: modules outside the packages, named in a recipe as `kind: tests.own_engine:Echo`."""

import os
from typing import Any

from pydantic import Field

from pipeline.engines.base import Completion, Engine, EngineSection, EngineStatus, ReplicatedSection, Request
from pipeline.errors import EngineDied
from pipeline.models import ModelRef


class Echo(Engine):
    """An endpoint that answers with a setting and the last line of what it is asked."""

    class Config(EngineSection):
        """Its section."""

        says: str
        shout: bool = False
        patience: float = Field(5, gt=0)
        may_change = ("patience",)

    started = False

    async def start(self) -> None:
        self.started = True

    async def generate(self, request: Request) -> list[Completion]:
        assert self.started, "an engine is started before it is asked"
        question = (request.messages or [{"content": request.prompt or ""}])[-1]["content"].splitlines()[-1]
        text = f"{self.config.says}: {question}"
        text = text.upper() if self.config.shout else text
        return [Completion(f"{text} ({i})\nAnswer: 4", "stop", 1, 2) for i in range(request.n)]


class Served(Engine):
    """Replicas in actors that serve the models that are trained; one dies over a request that says so."""

    class Config(ReplicatedSection):
        """Its section."""

        greeting: str = "hello"

    serves_trained_models = True
    is_endpoint = False
    replicated = True

    def __init__(self, config: Any, model: ModelRef, replica: int) -> None:
        super().__init__(config)
        self.model, self.replica, self.asked = model, replica, 0

    @classmethod
    def create(
        cls, config: Any, model: ModelRef, *, replica: int = 0, trust_remote_code: bool = False
    ) -> "Served":
        return cls(config, model, replica)

    async def generate(self, request: Request) -> list[Completion]:
        self.asked += 1
        if request.prompt == "die once" and not os.environ.get("DIED"):
            os.environ["DIED"] = "yes"
            raise EngineDied("as it was asked to")
        text = f"{self.config.greeting} from {self.model.name}, replica {self.replica}, request {self.asked}"
        return [Completion(text, "stop", 1, 1)] * request.n

    def status(self) -> EngineStatus:
        return EngineStatus(0, 0, looked_up=self.asked)


class Halfway(Engine):
    """It does not answer."""

    class Config(EngineSection):
        """Its section."""


class WithoutSection(Engine):
    """It does not declare its settings."""

    async def generate(self, request: Request) -> list[Completion]:
        return []


class NotAnEngine:
    """It only has a section."""

    class Config(EngineSection):
        """Its section."""

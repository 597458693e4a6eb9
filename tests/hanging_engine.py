"""An engine with a process of its own that computes the answers, as vLLM has. It hangs in several ways."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Literal

from pipeline.engines.base import Completion, Engine, ReplicatedSection, Request
from pipeline.engines.reaper import Reaper
from pipeline.errors import EngineDied
from pipeline.models import ModelRef

CORE = "import sys\nfor line in sys.stdin: print(line.strip(), flush=True)"
AT = 5  # the request of a process over which it hangs


class Hanging(Engine):
    """Its process (`core`), the actor (`actor`) or the actor's event loop (`loop`) stops, `times` times.

    One that is slow does not hang: it makes tokens but answers no question (`tokens`), or the other way round
    (`questions`).
    """

    class Config(ReplicatedSection):
        """Its section."""

        how: Literal["core", "actor", "loop", "tokens", "questions"]
        folder: str
        times: int = 1

    is_endpoint = False
    replicated = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._asked, self._steps, self._one_by_one = 0, 0, asyncio.Lock()
        self._core: Any = None
        self._reaper: Reaper | None = None

    @classmethod
    def create(cls, config: Any, model: ModelRef, **_: Any) -> "Hanging":
        return cls(config)

    async def start(self) -> None:
        self._reaper = Reaper()
        pipe = asyncio.subprocess.PIPE
        self._core = await asyncio.create_subprocess_exec(sys.executable, "-c", CORE, stdin=pipe, stdout=pipe)
        self._note("cores", str(self._core.pid))

    async def generate(self, request: Request) -> list[Completion]:
        self._asked += 1
        self._note("asked", request.row)
        if self._asked == AT:
            await self._hang()
        return [Completion(await self._ask(request.row), "stop", 1, 1)] * request.n

    def progress(self) -> int:
        return self._steps

    async def ping(self) -> None:
        if self.config.how == "tokens":
            await asyncio.Event().wait()
        await self._ask("there?")

    async def close(self) -> None:
        if self._reaper is not None:
            self._reaper.end()
            self._reaper = None

    async def _ask(self, what: str) -> str:
        async with self._one_by_one:
            self._core.stdin.write(f"{what}\n".encode())
            answer = await self._core.stdout.readline()
        if not answer:
            raise EngineDied("its process ended")
        return answer.decode().strip()

    async def _hang(self) -> None:
        how = self.config.how
        if how in ("tokens", "questions"):
            for _ in range(60):
                await asyncio.sleep(0.1)
                self._steps += how == "tokens"
            return
        if len(self._noted("hung")) >= self.config.times:
            return
        self._note("hung", how)
        if how == "loop":
            time.sleep(600)
        os.kill(os.getpid() if how == "actor" else self._core.pid, signal.SIGSTOP)

    def _note(self, name: str, line: str) -> None:
        with open(Path(self.config.folder) / name, "a") as f:
            f.write(f"{line}\n")

    def _noted(self, name: str) -> list[str]:
        path = Path(self.config.folder) / name
        return path.read_text().split() if path.exists() else []

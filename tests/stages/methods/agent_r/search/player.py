"""Players of the counter game: they answer requests by the request's hash alone, as a model would."""

from collections.abc import Awaitable, Callable

from pipeline.engines.base import Completion, Request, Sampling
from pipeline.runner.llm import LLM

Send = Callable[[Request], Awaitable[list[Completion]]]
MOVES = ("add 1", "add 2", "double", "fly", "Add 1.", "reflect")


def player(
    sent: list[Request] | None = None,
    moves: tuple[str, ...] = MOVES,
    die_after: int | None = None,
    log: dict | None = None,
) -> Send:
    """Return a `send` that plays, and dies after `die_after` requests.

    It keeps finished ones in `log`, as the request log does.
    """

    async def send(request: Request) -> list[Completion]:
        key = request.key("m")
        if log is not None and key in log:
            return log[key]
        if die_after is not None and sent is not None and len(sent) >= die_after:
            raise KeyboardInterrupt
        if sent is not None:
            sent.append(request)
        done = [completion(answer(request, i, moves)) for i in range(request.n)]
        if log is not None:
            log[key] = done
        return done

    return send


def answer(request: Request, index: int = 0, moves: tuple[str, ...] = MOVES) -> str:
    """Return a turn; which move is decided by the request's hash."""
    pick = int(request.key("m")[2 * index % 30 : 2 * index % 30 + 2], 16)
    return f"Thought: the {pick}th idea.\nAction: {moves[pick % len(moves)]}"


def play_and_judge(request: Request, index: int) -> str:
    """Answer as the scripted engine's function: moves by the hash, judgements of all three kinds."""
    if request.step == "agent_r/judge":
        kind = ("Good", "Bad", "Uncertain")[int(request.key("m")[:2], 16) % 3]
        return f"It moves the number.\nJudgement: {kind}"
    return answer(request, index, ("add 1", "add 2", "double", "fly"))


def completion(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(text, finish_reason, 10, 5)


def llm(send: Send, row: str = "task-1", round: int = 1) -> LLM:
    return LLM(send, row, "m", Sampling(temperature=1.0, max_tokens=40), round)

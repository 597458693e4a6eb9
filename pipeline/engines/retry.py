"""Retry the attempts of one request. Each request retries on its own: one that gets a 429 delays no other."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from itertools import count
from typing import TypeVar

from pipeline.errors import EngineError
from pipeline.retries import MAX_BACKOFF, MAX_RETRY_AFTER

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class Failure:
    """Why one attempt failed: a value, so that no HTTP exception becomes the context of the EngineError.

    Such an exception carries the request's headers, and with them the API key. `retry_after` is what the
    endpoint asked for, in seconds; `raw` is its reply; `error` is raised in the end. `of_request`: if every
    attempt ends like this, the request is at fault and not the endpoint, so the error is not retryable
    either. `there`: whether the endpoint was there, None if that is not known.
    """

    message: str
    retryable: bool = True
    retry_after: float = 0.0
    raw: str = ""
    error: type[EngineError] = EngineError
    of_request: bool = False
    there: bool | None = None


class Retrier:
    """Makes up to 1 + `max_retries` attempts, with exponential backoff and full jitter in between.

    While the endpoint is away for all requests, attempts are not counted for up to `outage_seconds` since its
    last answer. One that has never answered is not waited for: most likely its address is wrong.
    """

    def __init__(self, max_retries: int, backoff: float = 0.0, outage_seconds: float = 0.0) -> None:
        """`backoff` is the longest wait in seconds before the first retry; it doubles up to MAX_BACKOFF."""
        self.max_retries, self.backoff, self._patience = max_retries, backoff, outage_seconds
        self.retries = 0  # over all requests
        self._answers = 0  # over all requests, refusals included
        self._last_answer = -math.inf
        self._trouble = ""  # of an endpoint that is waited for

    async def run(self, attempt: Callable[[int], Awaitable[T | Failure]]) -> T:
        """Repeat `attempt(number of attempts so far)` until it returns something other than a Failure.

        Raises EngineError for a failure that is not retryable, or after the last retry. In the latter case
        the error is `retryable`, as the same request may well succeed later, unless the failure is
        `of_request`.
        """
        uncounted, answers = 0, self._answers
        for tried in count():
            outcome = await attempt(tried)
            if not isinstance(outcome, Failure) or outcome.there:
                self._answers, self._last_answer, self._trouble = self._answers + 1, time.monotonic(), ""
            if not isinstance(outcome, Failure):
                return outcome
            # Where others are answered meanwhile, the endpoint is there.
            if outcome.there is False and self._answers == answers and self._waits(outcome):
                uncounted += 1
            answers = self._answers
            if not outcome.retryable or tried - uncounted >= self.max_retries:
                raise outcome.error(
                    f"{outcome.message} (gave up after {tried + 1} attempt{'s' if tried else ''})",
                    retryable=outcome.retryable and not outcome.of_request,
                    raw=outcome.raw,
                )
            self.retries += 1
            wait = self.wait(tried, outcome.retry_after)
            logger.debug("attempt %d failed, next in %.2f s: %s", tried + 1, wait, outcome.message)
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    def trouble(self) -> str:
        """Return why the endpoint is waited for, and until when; "" if it is not."""
        return self._trouble

    def _waits(self, failure: Failure) -> bool:
        """Tell whether the endpoint is to be waited for still, after it was not there once more."""
        left = self._last_answer + self._patience - time.monotonic()
        until = time.strftime("%H:%M:%S", time.localtime(time.time() + max(0.0, left)))
        self._trouble = f"{failure.message}; trying again until {until}" if left > 0 else ""
        return left > 0

    def wait(self, tried: int, retry_after: float = 0.0) -> float:
        """Return the seconds to wait after attempt number `tried` (from 0).

        Full jitter (uniform from 0 to the window) spreads the retries of many requests best. It is added to
        what the endpoint asked for, or all requests that hit a rate limit would return in the same instant.
        """
        window = min(MAX_BACKOFF, self.backoff * 2.0 ** min(tried, 30))
        return min(retry_after, MAX_RETRY_AFTER) + random.uniform(0, window)


def retry_after_seconds(header: str | None) -> float:
    """Return the seconds that a Retry-After header asks for, as a number or an HTTP date; 0 without one."""
    if not header:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        date = parsedate_tz(header)
        return max(0.0, mktime_tz(date) - time.time()) if date else 0.0

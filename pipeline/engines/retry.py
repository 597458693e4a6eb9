"""Repeats the failed attempts of one request. Each request does so for itself: a 429 of one never holds the others back."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from itertools import count
from typing import TypeVar

from pipeline.errors import EngineError

logger = logging.getLogger(__name__)
T = TypeVar("T")

MAX_BACKOFF = 60.0  # seconds
MAX_RETRY_AFTER = 120.0  # seconds; an endpoint that asks for more is asked again sooner


@dataclass(slots=True, frozen=True)
class Failure:
    """Why one attempt failed. `retry_after` is what the endpoint asked for, in seconds; `raw` is its reply.

    A value, not an exception: nothing of the HTTP layer (whose errors carry the request's headers, and so the API key)
    can then hang on to the EngineError as its context. `error` is what is raised in the end. `of_request`: where every
    attempt ends like this, it is the request's doing, not the endpoint's, and later attempts will not help either.
    """

    message: str
    retryable: bool = True
    retry_after: float = 0.0
    raw: str = ""
    error: type[EngineError] = EngineError
    of_request: bool = False


class Retrier:
    """Tries up to 1 + `max_retries` times, with exponential backoff and full jitter in between."""

    def __init__(self, max_retries: int, backoff: float = 0.0) -> None:
        """`backoff` is the longest wait in seconds before the first retry; it doubles up to MAX_BACKOFF."""
        self.max_retries, self.backoff = max_retries, backoff
        self.retries = 0  # attempts that were made again, over all requests

    async def run(self, attempt: Callable[[int], Awaitable[T | Failure]]) -> T:
        """Return what `attempt` (given the number of attempts before it) returns once that is not a Failure.

        Raises EngineError when a failure is not retryable or the retries are used up. The error stays `retryable` in
        the second case, as the same request may well succeed later; not where the failure is `of_request`.
        """
        for tried in count():
            outcome = await attempt(tried)
            if not isinstance(outcome, Failure):
                return outcome
            if not outcome.retryable or tried >= self.max_retries:
                attempts = f" (gave up after {tried + 1} attempt{'s' if tried else ''})"
                raise outcome.error(
                    outcome.message + attempts,
                    retryable=outcome.retryable and not outcome.of_request,
                    raw=outcome.raw,
                )
            self.retries += 1
            wait = self.wait(tried, outcome.retry_after)
            logger.debug("attempt %d failed, next in %.2f s: %s", tried + 1, wait, outcome.message)
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    def wait(self, tried: int, retry_after: float = 0.0) -> float:
        """Return the seconds to wait after attempt number `tried` (from 0).

        Full jitter (uniform from 0 to the window) spreads the retries of many requests best. It comes on top of what
        the endpoint asked for, or all requests that met a rate limit would be back in the same instant.
        """
        window = min(MAX_BACKOFF, self.backoff * 2.0 ** min(tried, 30))
        return min(retry_after, MAX_RETRY_AFTER) + random.uniform(0, window)


def retry_after_seconds(header: str | None) -> float:
    """Return the seconds that a Retry-After header asks for, given as seconds or as an HTTP date; 0 for none."""
    if not header:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        date = parsedate_tz(header)
        return max(0.0, mktime_tz(date) - time.time()) if date else 0.0

"""Retry the attempts of one request. Each request retries on its own: one that gets a 429 delays no other."""

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
from pipeline.retries import MAX_BACKOFF, MAX_RETRY_AFTER

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class Failure:
    """Why one attempt failed: a value, so that no HTTP exception becomes the context of the EngineError.

    Such an exception carries the request's headers, and with them the API key. `retry_after` is what the
    endpoint asked for, in seconds; `raw` is its reply; `error` is raised in the end. `of_request`: if every
    attempt ends like this, the request is at fault and not the endpoint, so the error is not retryable
    either.
    """

    message: str
    retryable: bool = True
    retry_after: float = 0.0
    raw: str = ""
    error: type[EngineError] = EngineError
    of_request: bool = False


class Retrier:
    """Makes up to 1 + `max_retries` attempts, with exponential backoff and full jitter in between."""

    def __init__(self, max_retries: int, backoff: float = 0.0) -> None:
        """`backoff` is the longest wait in seconds before the first retry; it doubles up to MAX_BACKOFF."""
        self.max_retries, self.backoff = max_retries, backoff
        self.retries = 0  # over all requests

    async def run(self, attempt: Callable[[int], Awaitable[T | Failure]]) -> T:
        """Repeat `attempt(number of attempts so far)` until it returns something other than a Failure.

        Raises EngineError for a failure that is not retryable, or after the last retry. In the latter case
        the error is `retryable`, as the same request may well succeed later, unless the failure is
        `of_request`.
        """
        for tried in count():
            outcome = await attempt(tried)
            if not isinstance(outcome, Failure):
                return outcome
            if not outcome.retryable or tried >= self.max_retries:
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

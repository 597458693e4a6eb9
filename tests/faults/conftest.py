"""Two drivers of the recipe that a file's own `folder` fixture writes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.driver import Driver, marked


@pytest.fixture
def drivers(folder: Path) -> Iterator[tuple[Driver, Driver]]:
    """One that is left alone, and one to be killed. What they leave is killed, so that a failure does not disturb other tests."""
    found = Driver(folder, "alone"), Driver(folder, "killed")
    yield found
    for driver in found:
        for pid in marked(driver.mark):
            os.kill(pid, signal.SIGKILL)

"""Two drivers of the recipe that a file's own `folder` fixture writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.driver import Driver, kill_all


@pytest.fixture
def drivers(folder: Path, local_ray: Any) -> Iterator[tuple[Driver, Driver]]:
    """One to be left alone, and one to be killed.

    What they leave is killed, so that a failure does not disturb other tests.
    """
    both = Driver(folder, "alone"), Driver(folder, "killed")
    yield both
    for driver in both:
        kill_all(driver.mark)

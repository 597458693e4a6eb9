"""How often Python looks for cyclic garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

RARELY = (20_000, 20, 20)


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Look for garbage less often meanwhile: rows are many objects without cycles, which need no search."""
    before = gc.get_threshold()
    gc.set_threshold(*RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)

"""Run a source in a process with a fixed hash seed, so that sets are always iterated in the same order."""

import os
import subprocess
import sys
from collections.abc import Iterator

import orjson

from pipeline.config import Source
from pipeline.errors import DataError
from pipeline.registry import resolve
from stages.tasks.records import BadRow, RawRow, Repeat

_KINDS = {kind.__name__: kind for kind in (RawRow, BadRow, Repeat)}
_COMMAND = [sys.executable, "-c", "from stages.tasks.fixed_process import child; child()"]


def in_fixed_process(target: str, source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    """Yield what the source at `target` ("module:function") yields with PYTHONHASHSEED=0.

    Raises the source's own DataError, and one if the process dies.
    """
    path = os.pathsep.join(p or os.getcwd() for p in sys.path)
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": path}
    process = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdin and process.stdout
    try:
        with process.stdin:
            process.stdin.write(orjson.dumps([target, source.model_dump(mode="json"), seed]))
        for line in process.stdout:
            kind, fields = orjson.loads(line)
            if kind == "error":
                raise DataError(fields)
            yield _KINDS[kind](**fields)
        if code := process.wait():
            name = source.dataset or target
            raise DataError(
                f"the process generating the tasks of {name} ended with code {code}; see its output."
            )
    finally:  # also if the caller stops early
        process.kill()
        process.wait()
        process.stdout.close()


def child() -> None:
    """Be that process: read [target, source, seed] from stdin and write one JSON line per row."""
    out, sys.stdout = sys.stdout.buffer, sys.stderr  # what a generator prints must not be read as a row
    target, source, seed = orjson.loads(sys.stdin.buffer.read())
    try:
        for row in resolve("source", target)(Source(**source), seed):
            fields = {name: getattr(row, name) for name in row.__slots__}
            out.write(orjson.dumps([type(row).__name__, fields]) + b"\n")
    except DataError as e:
        out.write(orjson.dumps(["error", str(e)]) + b"\n")
    out.flush()

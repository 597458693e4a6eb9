"""Runs a source in a Python process whose hash seed is fixed, so that walking over a set gives the same order every time."""

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
_START = "from stages.tasks.fixed_process import child; child()"


def in_fixed_process(target: str, source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    """Yield what the source at `target` ("module:function") yields, run with PYTHONHASHSEED=0. Its DataError is raised here."""
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdin and process.stdout
    try:
        with process.stdin:
            process.stdin.write(orjson.dumps([target, source.model_dump(mode="json"), seed]))
        for line in process.stdout:
            kind, fields = orjson.loads(line)
            if kind == "error":
                raise DataError(fields)
            yield _KINDS[kind](**fields)
        if process.wait():
            name = source.dataset or target
            raise DataError(
                f"the process that makes the tasks of {name} ended with code {process.returncode}; its output says why."
            )
    finally:  # also when the caller stops in the middle
        process.kill()
        process.wait()
        process.stdout.close()


def child() -> None:
    """Be that process: read [target, source, seed] from stdin, write one JSON line for each row."""
    out, sys.stdout = sys.stdout.buffer, sys.stderr  # what a generator prints is not to be read as a row
    target, source, seed = orjson.loads(sys.stdin.buffer.read())
    try:
        for row in resolve("source", target)(Source(**source), seed):
            fields = {name: getattr(row, name) for name in row.__slots__}
            out.write(orjson.dumps([type(row).__name__, fields]) + b"\n")
    except DataError as e:
        out.write(orjson.dumps(["error", str(e)]) + b"\n")
    out.flush()

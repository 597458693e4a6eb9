"""Plain data between a program and its tests: what comes out is built-in types alone, whatever went in.

A value whose class only pretends to be equal to everything arrives as a reference, or as the data it holds.
"""

import json
import socket
import struct
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_MESSAGE = 16 << 20  # bytes
MAX_DEPTH = 200
_HEAD = struct.Struct("=I")

Refer = Callable[[Any], int]
"""Keeps an object that is no plain data and returns the number it is known by."""


class NotPlainError(Exception):
    """A value that cannot be sent."""


def encode(value: Any, refer: Refer | None = None, depth: int = 0) -> Any:
    """Return `value` as JSON; other objects become references, or raise NotPlainError without `refer`."""
    if depth > MAX_DEPTH:
        raise NotPlainError("nested too deeply")
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if abs(value) < 1 << 53 else {"int": hex(value)}
    if kind in (float, complex, Decimal, Fraction):
        return {kind.__name__: repr(value) if kind is not Fraction else str(value)}
    bases: tuple[Any, ...] = (list, tuple, set, frozenset)
    for base in bases:
        if isinstance(value, base):
            return {base.__name__: [encode(v, refer, depth + 1) for v in base.__iter__(value)]}
    if isinstance(value, dict):
        items = dict.items(value)
        return {"dict": [[encode(k, refer, depth + 1), encode(v, refer, depth + 1)] for k, v in items]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value).hex()}
    # Of a subclass, its data without its methods.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return encode(int.__add__(value, 0), refer, depth)
    if isinstance(value, float):
        return encode(float.__add__(value, 0.0), refer, depth)
    if refer is None:
        raise NotPlainError(f"a {kind.__name__} cannot be passed to the program")
    return {"object": refer(value)}


def decode(value: Any, resolve: Callable[[int], Any]) -> Any:
    """Return the value that `encode` made `value` from; references go through `resolve`."""
    if not isinstance(value, dict):
        return value
    [(kind, data)] = value.items()
    if kind in ("list", "tuple", "set", "frozenset"):
        items = [decode(v, resolve) for v in data]
        return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](items)
    if kind == "dict":
        return {decode(k, resolve): decode(v, resolve) for k, v in data}
    if kind == "object":
        return resolve(int(data))
    if kind == "Decimal":
        return Decimal(data.removeprefix("Decimal('").removesuffix("')"))
    readers: dict[str, Callable[[str], Any]] = {
        "int": lambda text: int(text, 16),
        "float": float,
        "complex": complex,
        "Fraction": Fraction,
        "bytes": bytes.fromhex,
    }
    return readers[kind](data)


def send(channel: socket.socket, message: Any) -> None:
    """Send one JSON message. Raises OSError when the other side is gone."""
    data = json.dumps(message).encode()
    channel.sendall(_HEAD.pack(len(data)) + data)


def receive(channel: socket.socket) -> Any:
    """Return the next message. Raises EOFError at the end, or for one that is too long."""
    [length] = _HEAD.unpack(_exactly(channel, _HEAD.size))
    if length > MAX_MESSAGE:
        raise EOFError("message too long")
    return json.loads(_exactly(channel, length))


def _exactly(channel: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = channel.recv(min(count - len(data), 1 << 16))
        if not part:
            raise EOFError("the other side is gone")
        data += part
    return data

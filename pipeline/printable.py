"""Model-written text made safe for a terminal: it cannot move the cursor, set colors or reorder text."""

import json
import re
from typing import Any

# Control characters (C0, DEL, C1: U+009B alone begins an escape sequence), bidirectional marks, line
# separators, and surrogates, which cannot be encoded. Newline and tab are harmless.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Return `text` with unsafe characters as escapes such as \x1b, and CRLF as newline."""
    return _UNSAFE.sub(lambda m: _escape(m[0]), text.replace("\r\n", "\n"))


def one_line(text: str, limit: int) -> str:
    """Return `text` safe, on one line, truncated to `limit` characters."""
    text = printable(" ".join(text[: limit * 4].split()))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def cut(text: str, limit: int, lines: int) -> str:
    """Return `text` safe, truncated to `limit` characters and `lines` lines, noting what is missing."""
    text = text.replace("\r\n", "\n")
    short = "\n".join(text[:limit].split("\n")[:lines])
    left = len(text) - len(short)
    return printable(short) + (f" ... ({left:,} more characters)" if left else "")


def json_text(value: Any) -> str:
    """Return `value` as indented JSON with unsafe characters escaped; it still parses."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return _UNSAFE.sub(lambda m: f"\\u{ord(m[0]):04x}", text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

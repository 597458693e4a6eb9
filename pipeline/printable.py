"""Text a model wrote, made safe for a terminal: what would move the cursor, set colours or turn the writing round is spelled out."""

import json
import re
from typing import Any

# Control characters (C0, DEL, C1: U+009B begins an escape sequence by itself), marks that turn the direction of writing, line
# separators, and surrogates, which no encoding can write. Newline and tab are harmless.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Return `text` with unsafe characters as escapes such as \x1b. Line ends of other systems become newlines."""
    return _UNSAFE.sub(lambda m: _escape(m[0]), text.replace("\r\n", "\n"))


def one_line(text: str, limit: int) -> str:
    """Return `text` safe and on one line, cut to `limit` characters."""
    text = printable(" ".join(text[: limit * 4].split()))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def cut(text: str, limit: int, lines: int) -> str:
    """Return the beginning of `text`, safe: at most `limit` characters and `lines` lines; what is left out is said."""
    text = text.replace("\r\n", "\n")
    short = "\n".join(text[:limit].split("\n")[:lines])
    left = len(text) - len(short)
    return printable(short) + (f" ... ({left:,} more characters)" if left else "")


def json_text(value: Any) -> str:
    """Return `value` as indented JSON in which unsafe characters are escaped, so that it can be shown as well as parsed."""
    return _UNSAFE.sub(
        lambda m: f"\\u{ord(m[0]):04x}", json.dumps(value, ensure_ascii=False, indent=2, default=str)
    )


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

"""Words of any script: what white space divides, and each character where nothing divides.

Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan are written without spaces between words, so each of
their characters counts as a word, with the marks that belong to it. Korean has spaces. For a text in other
scripts the words are exactly those that white space divides.
"""

import re
import unicodedata

_UNSPACED = re.compile(
    "[\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3041-\u30ff\u3100-\u312f\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f"
    "\U00020000-\U0003ffff"  # Han, kana, bopomofo
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e80-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff]"  # Thai to Khmer
)
# Full-width punctuation, what NFKC makes of it, and all kinds of brackets.
_PUNCTUATION = frozenset(
    ".,:;?!~()[]\u2018\u2019\u201c\u201d\u2026\u3001\u3002\u30fb\uff01\uff08\uff09\uff0c\uff0e\uff1a"
    "\uff1b\uff1f\uff5e\uff61\uff62\uff63\uff64" + "".join(map(chr, range(0x3008, 0x3020)))
)


def split(text: str) -> list[str]:
    """Return the words of `text` in their order, punctuation included where it is joined to one."""
    if not _UNSPACED.search(text):
        return text.split()
    return [part for token in text.split() for part in divide(token)]


def divide(token: str) -> list[str]:
    """Divide a text without white space into the characters of unspaced scripts and what stands between.

    Punctuation that stands alone between such characters is no word. A token without them stays whole.
    """
    parts = pieces(token)
    return [part for part in parts if len(parts) == 1 or not _PUNCTUATION.issuperset(part)]


def pieces(token: str) -> list[str]:
    """Divide a token as `divide` does, with the punctuation: joined, the pieces are the token again."""
    if not _UNSPACED.search(token):
        return [token]
    parts: list[str] = []
    alone = False  # the last part is a character of an unspaced script
    for char in token:
        mark = unicodedata.category(char).startswith("M")
        unspaced = _UNSPACED.match(char) is not None
        if parts and (mark or not (alone or unspaced)):
            parts[-1] += char
        else:
            parts.append(char)
        alone = alone if mark else unspaced
    return parts

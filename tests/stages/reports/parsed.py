"""A report as tests read it: its elements, its visible text, and the rows that are packed in it."""

import base64
import gzip
import json
from collections import Counter
from html.parser import HTMLParser
from typing import Any


class Parsed(HTMLParser):
    """The page's elements, its visible text, and what is packed in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: Counter[str] = Counter()
        self.data: dict[str, str] = {}
        self.text = ""
        self._in: list[str] = []
        self._id = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags[tag] += 1
        self.attributes.update(name for name, _ in attrs)
        self._id = dict(attrs).get("id", "") if tag == "script" else ""
        self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._in and self._in.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._in and self._in[-1] == "script":
            self.data[self._id] = self.data.get(self._id, "") + data
        elif not self._in or self._in[-1] != "style":
            self.text += data

    def unpacked(self, name: str) -> Any:
        return json.loads(gzip.decompress(base64.b64decode(self.data[name])))

    def rows(self) -> list[Any]:
        """All samples of the page, with their pooled values in place."""
        found = []
        for name in (n for n in self.data if n.startswith("chunk-")):
            chunk = self.unpacked(name)
            for titles, steps, (detail, raw) in chunk["rows"]:
                way = [(stage, {k: chunk["pool"][v] for k, v in fields}) for stage, _, _, fields in steps]
                found.append((titles, way, chunk["pool"][detail], chunk["pool"][raw]))
        return found

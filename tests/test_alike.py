"""Which rows are alike, and where ids are: the same as with dicts and lists of texts."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alike import Digests
from pipeline.ids import digest, unit_interval
from pipeline.many_ids import Places, in_order, list_digest, unit_intervals

ids = st.lists(st.text("abé\U0001f600", max_size=2), max_size=30)


def chunked(texts: list[str]) -> pa.ChunkedArray:
    """Return the texts in several chunks."""
    return pa.chunked_array([texts[i : i + 3] for i in range(0, len(texts), 3)], pa.string())


@given(ids)
def test_the_first_row_with_the_same_content(texts: list[str]) -> None:
    contents, first = Digests(), dict[str, int]()
    for i, text in enumerate(texts):
        contents.add(text.encode())
        first.setdefault(text, i)
    assert len(contents) == len(texts)
    assert contents.first().tolist() == [first[text] for text in texts]
    some = texts[1::2]
    assert contents.first(np.arange(1, len(texts), 2)).tolist() == [some.index(text) for text in some]


@given(ids, st.data())
def test_ids_are_sorted_like_texts(texts: list[str], data: st.DataObject) -> None:
    """By keys, then by id; rows that have all in common stay in their order."""
    exempt = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))), bool)
    place = unit_intervals(chunked(texts), 3, "x")
    assert place.tolist() == [unit_interval(3, "x", text) for text in texts]
    coarse = np.round(place * 3) / 3
    expected = sorted(range(len(texts)), key=lambda i: (exempt[i], coarse[i], texts[i]))
    assert in_order(chunked(texts), exempt, coarse).tolist() == expected
    assert list_digest("head", chunked(texts)) == digest(["head", sorted(texts)])


@given(ids, ids)
def test_places_of_ids(texts: list[str], others: list[str]) -> None:
    distinct = list(dict.fromkeys(texts))
    places = Places(chunked(distinct))
    assert len(places) == len(distinct)
    assert places.of(others).tolist() == [distinct.index(i) for i in others if i in distinct]
    assert places.count(iter(others)).tolist() == [others.count(i) for i in distinct]

"""Parts: what a kill leaves at any moment is either a whole part or is swept away.

Every row is accounted for once.
"""

import contextlib
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DamagedError
from pipeline.rows import Dropped, Failed, Kept, Outcome, Row
from pipeline.store import files, parts
from pipeline.store import lookup as search
from pipeline.store.manifest import Manifest, PartEntry
from pipeline.store.parts import Counts, PartWriter

OUTCOME = st.one_of(
    st.integers(0, 3).map(lambda n: ("kept", n)),
    st.sampled_from(["a", "b"]).map(lambda r: ("dropped", r)),
    st.sampled_from(["x", "y"]).map(lambda e: ("failed", e)),
)


def outcome_of(row: Row, what: tuple[str, object]) -> Outcome:
    kind, value = what
    if kind == "kept":
        return Kept([row.child("s", i) for i in range(value)])
    return Dropped(value, "why", "raw") if kind == "dropped" else Failed(value, "why", "raw")


def ids_in(folder: str) -> list[str]:
    return [row.id for path in files.glob(folder, "part-*.arrow") for row in parts.read_rows(path)]


def rejects_in(folder: str, kind: str) -> list[str]:
    return [i for table in parts.read_tables(files.join(folder, kind)) for i in table["id"].to_pylist()]


@given(st.lists(OUTCOME, max_size=40), st.integers(1, 9), st.integers(1, 3), st.booleans())
def test_conservation(
    tmp_path_factory: pytest.TempPathFactory, whats: list, part_rows: int, writers: int, remote: bool
) -> None:
    """For any outcomes, part sizes and writers: counts add up, and each input id is in exactly one part."""
    folder = str(tmp_path_factory.mktemp("parts"))
    folder = f"memory://{folder}" if remote else folder
    rows = [Row(f"r{i}", {"n": i}) for i in range(len(whats))]
    outcomes = [outcome_of(row, what) for row, what in zip(rows, whats, strict=True)]
    makers = [PartWriter(files.join(folder, "rows"), folder, f"{i:05d}") for i in range(writers)]
    for i, (row, outcome) in enumerate(zip(rows, outcomes, strict=True)):
        maker = makers[i % writers]
        maker.add(row, outcome, Counts(sent=1, prompt_tokens=i))
        if len(maker) >= part_rows:
            maker.flush()
    for maker in makers:
        maker.flush()
        assert len(maker) == 0
    total, inputs = Counts(), []
    for part in parts.committed(files.join(folder, "rows")):
        total.add(part.counts)
        inputs += part.inputs
        assert parts.row_count(part.path) == part.counts.out
    assert sorted(inputs) == sorted(r.id for r in rows)
    assert total.rows_in == total.sent == len(rows) and total.prompt_tokens == sum(range(len(rows)))
    assert sorted(ids_in(files.join(folder, "rows"))) == sorted(
        r.id for o in outcomes if isinstance(o, Kept) for r in o.rows
    )
    assert sorted(rejects_in(folder, "dropped")) == sorted(
        r.id for r, o in zip(rows, outcomes, strict=True) if isinstance(o, Dropped)
    )
    # those that failed in one way are forgotten
    reasons = [o.error for o in outcomes if isinstance(o, Failed)]
    assert parts.forget_failed(files.join(folder, "rows"), folder, "no such error") == 0
    if reasons:
        assert parts.forget_failed(files.join(folder, "rows"), folder, reasons[0]) == reasons.count(
            reasons[0]
        )
        counted = sum(
            (Counter(p.counts.failed) for p in parts.committed(files.join(folder, "rows"))), Counter()
        )
        assert counted == Counter(r for r in reasons if r != reasons[0])
        assert sorted(rejects_in(folder, "failed")) == sorted(
            r.id
            for r, o in zip(rows, outcomes, strict=True)
            if isinstance(o, Failed) and o.error != reasons[0]
        )
    # the failed are forgotten, all others stay
    parts.forget_failed(files.join(folder, "rows"), folder)
    failed = {r.id for r, o in zip(rows, outcomes, strict=True) if isinstance(o, Failed)}
    left = [i for p in parts.committed(files.join(folder, "rows")) for i in p.inputs]
    assert sorted(left) == sorted({r.id for r in rows} - failed) and rejects_in(folder, "failed") == []
    assert not any(p.counts.failed for p in parts.committed(files.join(folder, "rows")))
    files.remove(folder)


def three(folder: Path, writer: str = "00000") -> PartWriter:
    out = PartWriter(str(folder), str(folder), writer)
    for name, outcome in (("a", Kept([Row("a1", {})])), ("b", Dropped("no")), ("c", Failed("broken"))):
        out.add(Row(name + writer, {}), outcome)
    return out


def test_a_kill_at_every_write_of_a_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the three files a flush reaches, sweeping leaves the part whole or nothing of it.

    The older part is left alone.
    """

    class Killed(BaseException):
        pass

    write = files.write_bytes
    for reached in range(4):
        folder = tmp_path / str(reached)
        three(folder).flush()
        seen = []

        def stop(path: str, data: bytes, seen: list[str] = seen, reached: int = reached) -> None:
            if len(seen) == reached:
                Path(f"{path}.0123abcd.tmp").parent.mkdir(parents=True, exist_ok=True)
                Path(f"{path}.0123abcd.tmp").write_bytes(bytes(data)[:10])
                raise Killed
            seen.append(path)
            write(path, data)

        monkeypatch.setattr(files, "write_bytes", stop)
        with contextlib.suppress(Killed):
            three(folder, "00001").flush()
        monkeypatch.setattr(files, "write_bytes", write)
        parts.sweep(str(folder), str(folder))
        whole = reached == 3
        assert [p.inputs for p in parts.committed(str(folder))] == [["a00000", "b00000", "c00000"]] + [
            ["a00001", "b00001", "c00001"]
        ] * whole
        assert rejects_in(str(folder), "dropped") == ["b00000"] + ["b00001"] * whole
        assert rejects_in(str(folder), "failed") == ["c00000"] + ["c00001"] * whole
        assert not list(folder.rglob("*.tmp"))


def test_the_part_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = files.write_bytes
    monkeypatch.setattr(files, "write_bytes", lambda path, data: (written.append(path), write(path, data)))
    three(tmp_path).flush()
    assert [Path(p).parent.name for p in written] == ["dropped", "failed", tmp_path.name]


def test_forgetting_failed_rows_can_be_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three(tmp_path).flush()

    def killed(path: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        parts.forget_failed(str(tmp_path), str(tmp_path))
    monkeypatch.undo()
    parts.sweep(str(tmp_path), str(tmp_path))
    parts.forget_failed(str(tmp_path), str(tmp_path))
    (part,) = parts.committed(str(tmp_path))
    assert part.inputs == ["a00000", "b00000"] and part.counts.rows_in == 2
    assert (
        ids_in(str(tmp_path)) == ["a1"]
        and rejects_in(str(tmp_path), "failed") == []
        and rejects_in(str(tmp_path), "dropped") == ["b00000"]
    )


def test_what_is_added_while_a_part_is_written_goes_into_the_next(tmp_path: Path) -> None:
    out = three(tmp_path)
    pending = out.take()
    out.add(Row("d", {}), Kept([]))
    pending.write()
    out.flush()
    assert [p.inputs for p in parts.committed(str(tmp_path))] == [["a00000", "b00000", "c00000"], ["d"]]


def manifest(**changes: object) -> Manifest:
    good = {
        "stage": "s",
        "round": 1,
        "method": "m",
        "fingerprint": "f",
        "rows_in": 6,
        "rows_done": 3,
        "rows_dropped": {"a": 2},
        "rows_failed": {"x": 1},
        "rows_out": 4,
        "parts": [PartEntry(path="p", rows=4, sha256="")],
    }
    return Manifest.model_validate({**good, **changes})


def test_a_manifest_that_adds_up(tmp_path: Path) -> None:
    manifest().write(str(tmp_path))
    assert Manifest.model_validate(files.read_json(str(tmp_path / "manifest.json"))) == manifest()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows_in": 7}, "lost rows: 7 in, but 3 done + 2 dropped + 1 failed = 6"),
        ({"rows_done": 4}, "lost rows"),
        ({"rows_failed": {}}, "lost rows"),
        ({"rows_out": 5}, "its parts hold 4 rows, but 5 were counted"),
        ({"parts": []}, "its parts hold 0 rows"),
        (
            {"steps": [{"name": "dedup", "rows_in": 4, "rows_out": 2, "dropped": {"duplicate": 1}}]},
            "step dedup of s lost rows",
        ),
    ],
)
def test_a_manifest_that_does_not_add_up_is_not_written(tmp_path: Path, changes: dict, said: str) -> None:
    from pipeline.errors import StageError

    with pytest.raises(StageError) as e:
        manifest(**changes).write(str(tmp_path))
    assert said in str(e.value) and not (tmp_path / "manifest.json").exists()


def test_dropped_in_all() -> None:
    steps = [{"name": "x", "rows_in": 4, "rows_out": 3, "dropped": {"a": 1}}]
    assert manifest(steps=steps).dropped_in_all() == {"a": 3}


def test_no_folder(tmp_path: Path) -> None:
    parts.sweep(str(tmp_path / "none"), str(tmp_path / "none"))
    parts.forget_failed(str(tmp_path / "none"), str(tmp_path / "none"))
    assert list(parts.committed(str(tmp_path / "none"))) == []
    shutil.rmtree(tmp_path / "none", ignore_errors=True)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.95, None])
def test_a_part_that_is_damaged_or_gone_is_named(tmp_path: Path, share: float | None) -> None:
    """Cut anywhere, overwritten, or removed: whoever reads it is told which file, and what to do."""
    writer = PartWriter(str(tmp_path), str(tmp_path), "00000")
    for i in range(20):
        writer.add(Row(f"r{i}", {"text": f"text {i}" * 20}), Kept([Row(f"k{i}", {"text": f"text {i}" * 20})]))
    writer.flush()
    [path] = tmp_path.glob("part-*.arrow")
    assert len(list(parts.read_rows(str(path)))) == 20
    whole = path.read_bytes()
    contents = [b"no arrow", b"\xff" * 200] if share is None else [whole[: int(len(whole) * share)]]
    for content in contents:
        path.write_bytes(content)
        for read in (
            lambda: list(parts.read_rows(str(path))),
            lambda: list(search.with_ids(str(path), {"k1"})),
        ):
            with pytest.raises(DamagedError, match=f"{path}: damaged .*delete the files named part-"):
                read()
    path.unlink()
    with pytest.raises(DamagedError, match=f"{path}: missing, but a manifest.json lists it"):
        list(parts.read_rows(str(path)))

"""Continued pretraining: the texts as one stream of tokens, cut into blocks and mixed with general text.

The blocks are written in the exact order of training, all epochs of them. So what is seen does not depend on
the number of workers, a resumed training continues in the middle, and the share of general text is exact.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
from datasets import Features, List, Value
from datasets.arrow_writer import ArrowWriter

from pipeline.errors import StageError
from pipeline.ids import unit_interval
from pipeline.publish.dataset import MANIFEST, SPLIT, shares
from pipeline.publish.loading import load_mixture
from pipeline.publish.tokens import text_ids
from pipeline.store import files, parts
from pipeline.training.data import TrainingData
from pipeline.training.spec import TrainSpec

_BLOCKS = Features(
    {"input_ids": List(Value("int32")), "tokens_text": Value("int32"), "replay": Value("bool")}
)
_README = """---
configs: [{config_name: default, data_files: [{split: train, path: train/data-*.arrow}]}]
---
Blocks of tokens in the order of training; `replay` marks those of general text.
"""


class Stream:
    """Cuts texts into blocks of `length` tokens; `first` is the first block, `rest` what fills no block."""

    def __init__(self, texts: Iterable[Sequence[int]], length: int) -> None:
        self._texts, self._length = texts, length
        self.tokens = 0
        self.first: list[int] = []
        self.rest: list[int] = []

    def __iter__(self) -> Iterator[list[int]]:
        rest: list[int] = []
        for text in self._texts:
            self.tokens += len(text)
            rest.extend(text)
            whole = len(rest) // self._length * self._length
            blocks = [rest[i : i + self._length] for i in range(0, whole, self._length)]
            self.first = self.first or (blocks[0] if blocks else [])
            yield from blocks
            rest = rest[whole:]
        self.rest = rest

    def last(self) -> list[int]:
        """Return `rest`, filled up to a block with the stream's first tokens."""
        return self.rest + self.first[: self._length - len(self.rest)]


def mix(
    blocks: int,
    replay: int,
    rate: float,
    seed: int,
    *,
    mode: str = "in_addition",
    epochs: float = 1,
    places: int | None = None,
) -> list[int]:
    """Return the block for each training place: below `blocks` an own one, `blocks` + i the i-th general one.

    Each place holds general text with probability `rate`, drawn by (seed, epoch, index) alone. With mode
    "instead" it replaces an own block, so a share of `rate` of an epoch's blocks is not seen; "in_addition"
    skips none. The order ends after `epochs`, each shuffled anew, over the own blocks, or after `places`.
    """
    if not replay:
        rate = 0.0
    order: list[int] = []
    own = max(1, round(blocks * epochs)) if places is None else None
    done = epoch = 0
    while (done < own) if own is not None else (len(order) < (places or 0)):
        shuffled = sorted(range(blocks), key=lambda i: unit_interval(seed, "blocks", epoch, i))
        for index, block in enumerate(shuffled[: None if own is None else own - done]):
            drawn = _draws(replay, rate, seed, epoch, index, 1 if mode == "instead" else None)
            order += [blocks + i for i in drawn]
            if not (drawn and mode == "instead"):
                order.append(block)
        done, epoch = done + blocks, epoch + 1
    return order[:places]


def _draws(replay: int, rate: float, seed: int, epoch: int, index: int, most: int | None) -> list[int]:
    """Return the general blocks before the own block at `index`: each follows with probability `rate`."""
    drawn: list[int] = []
    while len(drawn) != most and unit_interval(seed, "replay", epoch, index, len(drawn)) < rate:
        drawn.append(int(unit_interval(seed, "which", epoch, index, len(drawn)) * replay))
    return drawn


def prepare_blocks(spec: TrainSpec) -> TrainingData:
    """Write a training's blocks to `work`/dataset, unless they exist; their counts are in its manifest.json.

    Raises StageError if the texts do not fill one block.
    """
    folder = Path(spec.work) / "dataset"
    if not (folder / MANIFEST).exists():
        _write(spec, folder)
    manifest = files.read_json(str(folder / MANIFEST))
    places = manifest["packing"]["places"]
    return TrainingData([str(folder.absolute())], places, 0, manifest, places * spec.train.max_length)


def _write(spec: TrainSpec, folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(spec.model.path, trust_remote_code=spec.trust_remote_code)
    length, settings = spec.train.max_length, spec.train.cpt
    texts = load_mixture(spec.mixture, spec.seed, spec.kind)
    own = Stream((text_ids(tokenizer, text) for batch in texts.iter(500) for text in batch["text"]), length)
    general = Stream((text_ids(tokenizer, text) for text in _replay(spec)), length)
    with files.atomic_folder(folder) as aside:
        blocks = _spool(own, aside / "own.arrow", replay=False)
        replay = _spool(general, aside / "replay.arrow", replay=True)
        if not len(blocks):
            raise _too_short(f"the {len(texts)} texts", own, length)
        if spec.replay and not len(replay):
            raise _too_short("train.cpt.replay: the general texts", general, length)
        mixed = partial(
            mix,
            replay=len(replay),
            rate=settings.replay_rate,
            seed=spec.seed,
            mode=settings.replay_mode,
            epochs=spec.train.epochs,
            places=spec.train.max_steps * spec.train.batch_size if spec.train.max_steps else None,
        )
        order = mixed(len(blocks))
        if own.rest and sum(i < len(blocks) for i in order) > len(blocks):
            # Even in many passes the end of the stream would never be seen: much of a text, if there are few.
            last = _spool([own.last()], aside / "last.arrow", replay=False)
            blocks = datasets.concatenate_datasets([blocks, last])
            order = mixed(len(blocks))
        chosen = datasets.concatenate_datasets([blocks, replay]).select(order)
        datasets.DatasetDict({SPLIT: chosen}).save_to_disk(str(aside), num_shards={SPLIT: 1})
        for spool in aside.glob("*.arrow"):
            spool.unlink()
        (aside / "README.md").write_text(_README, encoding="utf-8")
        packing = _packing(order, len(blocks), own, general, length)
        files.write_json(str(aside / MANIFEST), shares(texts) | {"packing": packing})


def _packing(order: list[int], blocks: int, own: Stream, general: Stream, length: int) -> dict[str, Any]:
    """Return counts for the manifest; `replay_share` is the actual share, not the configured rate."""
    replayed = [i for i in order if i >= blocks]
    return {
        "block_tokens": length,
        "blocks": blocks,
        "tokens": own.tokens,
        "left_over_tokens": len(own.rest) if blocks == own.tokens // length else 0,
        "places": len(order),
        "blocks_not_seen": blocks - len({i for i in order if i < blocks}),
        "passes": round((len(order) - len(replayed)) / blocks, 4),
        "replay_share": round(len(replayed) / len(order), 4),
        "replay_blocks": len(replayed),
        "replay_blocks_distinct": len(set(replayed)),
        "replay_tokens": general.tokens,
    }


def _too_short(what: str, stream: Stream, length: int) -> StageError:
    return StageError(
        f"{what} have {stream.tokens} tokens, fewer than one block of train.max_length, {length}. Add texts, "
        "or lower train.max_length."
    )


def _replay(spec: TrainSpec) -> Iterator[str]:
    for path in files.glob(spec.replay, "part-*.arrow") if spec.replay else ():
        rows = sorted(parts.read_rows(path), key=lambda row: unit_interval(spec.seed, "general", row.id))
        yield from (row.payload["question"] for row in rows)


def _spool(stream: Iterable[list[int]], path: Path, replay: bool) -> datasets.Dataset:
    with ArrowWriter(features=_BLOCKS, path=str(path), writer_batch_size=500) as writer:
        for block in stream:
            writer.write({"input_ids": block, "tokens_text": len(block), "replay": replay})
        writer.finalize()
    return datasets.Dataset.from_file(str(path))

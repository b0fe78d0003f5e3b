"""An output's delivered pictures, or a folder's, read once: prompts, tags, features, colours. What cannot be read is said, not counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from renderfarm.errors import NotStored, PictureError, UserError
from renderfarm.log import reading
from renderfarm.output import JOB_FILE
from renderfarm.pictures import BYTES_MAX, ENDINGS, Pixels, decode, read_file
from renderfarm.schema import ObjectCount, Record, forgotten, is_review
from renderfarm.storage import Storage, open_storage

if TYPE_CHECKING:
    from renderfarm.models.features import FeatureNet, Vectors

QUANTILES = 16
"""Values that tell how one channel of a picture is spread."""
TOGETHER_PIXELS = 16_000_000
"""Pictures that are decoded at once hold about so many."""
PALETTE_SIDE = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture. `row`: its row's id, else what stands for one; `prompt`: None where nobody knows it (a folder, a forgotten row)."""

    name: str
    row: str
    index: int = 0
    prompt: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    objects: tuple[ObjectCount, ...] = ()
    sha256: str | None = None

    @property
    def place(self) -> tuple[str, int]:
        """What the same picture of another output is found by."""
        return self.row, self.index


@dataclass(frozen=True, slots=True)
class SampleSet:
    """Pictures that were read. `features` (N, size) and `words` (N, size; NaN without a prompt) where there is a network that gives them;
    `colours` (N, 48): distances between rows are in units of CIELAB."""

    source: str
    samples: tuple[Sample, ...]
    colours: npt.NDArray[np.float64]
    features: Vectors | None = None
    words: Vectors | None = None
    notes: tuple[str, ...] = ()

    def of(self, places: Sequence[int]) -> SampleSet:
        """These pictures alone."""
        at = list(places)
        features, words = (None if one is None else one[at] for one in (self.features, self.words))
        return replace(self, samples=tuple(self.samples[i] for i in at), colours=self.colours[at], features=features, words=words)


Read = Callable[[Sample], Pixels]


@dataclass(frozen=True, slots=True)
class PictureSource:
    """Where pictures lie: an output's delivered ones, or a folder's. Nothing was read of them yet."""

    name: str
    samples: Sequence[Sample]
    read: Read


def delivered(storage: Storage) -> list[Sample]:
    """The accepted pictures of the newest plan, by row and index. Raises: UserError where there are none; LogDamaged, StorageAway."""
    state = reading.read_state(storage)
    newest: dict[str, Record] = {}
    prompts: dict[str, Record] = {}
    for record in reading.records(storage):
        if record.image_id is None or not (record.kind == "attempt" or (is_review(record) and record.outcome == "accepted")):
            continue
        image = state.image(record.image_id)
        if image.accepted and not image.superseded and record.attempt == image.chosen:
            newest[record.image_id] = record
            if record.kind == "attempt":
                prompts[record.image_id] = record
    found = [_sample(record, prompts.get(image_id, record)) for image_id, record in newest.items() if record.object_key]
    if not found:
        raise UserError("the output has no accepted picture", storage.uri, "render first: `renderfarm status` says how far it is")
    return sorted(found, key=lambda sample: sample.place)


def _sample(record: Record, attempt: Record) -> Sample:
    assert record.object_key is not None and record.image_id is not None
    if forgotten(attempt):
        return Sample(record.object_key, record.image_id, sha256=record.file_sha256)
    row, index = attempt.row_id or record.image_id, attempt.index or 0
    return Sample(record.object_key, row, index, attempt.prompt, attempt.tags, attempt.objects, record.file_sha256)


def opened(uri: str) -> PictureSource:
    """The pictures behind a name, an output or a folder of pictures. Raises: UserError, LogDamaged, StorageAway."""
    folder = Path(uri).expanduser()
    if "://" not in uri and not folder.exists():
        raise UserError("there is no such folder", uri, "name an output, or a folder of pictures")
    if "://" not in uri and not (folder / JOB_FILE).exists():
        return _in_folder(uri, folder)
    storage = open_storage(uri)

    def read(sample: Sample) -> Pixels:
        try:
            data = storage.get(sample.name, BYTES_MAX)
        except NotStored:
            raise PictureError("it is not there", sample.name, "audit the output") from None
        if sample.sha256 is not None and hashlib.sha256(data).hexdigest() != sample.sha256:
            raise PictureError("its bytes are not those that were recorded", sample.name, "audit the output")
        return decode(data, sample.name)

    return PictureSource(uri, delivered(storage), read)


def _in_folder(uri: str, folder: Path) -> PictureSource:
    if not folder.is_dir():
        raise UserError("this is a file", str(folder), "name an output, or a folder of pictures")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not files:
        raise UserError("there is no picture in this folder", str(folder), f"its files must end in {', '.join(sorted(ENDINGS))}")
    names = [str(path.relative_to(folder)) for path in files]
    return PictureSource(uri, [Sample(name, name) for name in names], lambda sample: decode(read_file(folder / sample.name), sample.name))


def drawn(samples: Sequence[Sample], count: int | None) -> list[Sample]:
    """So many, the same ones at each call, whole rows first come; all where None."""
    if count is None or count >= len(samples):
        return list(samples)
    order = sorted(range(len(samples)), key=lambda at: hashlib.sha256(repr(samples[at].place).encode("utf-8", "surrogatepass")).digest())
    return [samples[at] for at in sorted(order[:count])]


def gather(
    source: PictureSource, net: FeatureNet | None, count: int | None = None, on_read: Callable[[int, int], None] = lambda done, of: None
) -> SampleSet:
    """Reads the pictures of an output or a folder, at most `count` of them. `on_read` hears how far it is.

    Raises: UserError where none can be read; StorageAway.
    """
    samples, read = source.samples, source.read
    wanted = drawn(samples, count)
    notes = [] if len(wanted) == len(samples) else [f"{len(wanted)} of {len(samples)} pictures were looked at"]
    kept: list[Sample] = []
    failed: list[PictureError] = []
    colours: list[npt.NDArray[np.float64]] = []
    vectors: list[Vectors] = []
    for batch in _batches(wanted, read, failed):
        kept += [sample for sample, _ in batch]
        colours += [palette(pixels) for _, pixels in batch]
        if net is not None:
            vectors.append(net.pictures([pixels for _, pixels in batch]))
        on_read(len(kept), len(wanted))
    if not kept:
        raise UserError(f"none of {len(wanted)} pictures can be read: {failed[0].what}", source.name, failed[0].remedy)
    if failed:
        notes.append(f"{len(failed)} pictures cannot be read and are left out, such as {failed[0].where}: {failed[0].what}")
    words = _words(kept, net, notes) if net is not None and net.words else None
    return SampleSet(source.name, tuple(kept), np.array(colours), np.concatenate(vectors) if vectors else None, words, tuple(notes))


def _batches(samples: Sequence[Sample], read: Read, failed: list[PictureError]) -> Iterator[list[tuple[Sample, Pixels]]]:
    """Pictures in their order, a few at once; what cannot be read goes to `failed`."""
    from renderfarm.models.features import BATCH

    batch: list[tuple[Sample, Pixels]] = []
    for sample in samples:
        try:
            batch.append((sample, read(sample)))
        except PictureError as error:
            failed.append(error)
        if len(batch) == BATCH or sum(pixels.size for _, pixels in batch) > 3 * TOGETHER_PIXELS:
            yield batch
            batch = []
    if batch:
        yield batch


def _words(samples: Sequence[Sample], net: FeatureNet, notes: list[str]) -> Vectors | None:
    """Features of each sample's prompt, NaN where there is none; None where none has one."""
    from renderfarm.models.features import BATCH

    texts = list(dict.fromkeys(sample.prompt for sample in samples if sample.prompt is not None))
    if not texts:
        return None
    said = np.concatenate([net.texts(texts[at : at + BATCH]) for at in range(0, len(texts), BATCH)])
    if cut := sum(map(net.cut, texts)):
        notes.append(
            f"{cut} of {len(texts)} prompts are longer than the {net.tokens_max} tokens that the network reads: their ends count nothing"
        )
    places = {text: at for at, text in enumerate(texts)}
    missing = np.full(said.shape[1], np.nan, np.float32)
    return np.stack([missing if sample.prompt is None else said[places[sample.prompt]] for sample in samples])


def palette(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Which colours a picture has, wherever they are: quantiles of L, a and b, (48,), of uint8 (H, W, 3) sRGB.

    The Euclidean distance of two palettes is the 2-Wasserstein distance of each channel, summed in squares: in units of CIELAB, where
    about 2.3 can just be seen (Mahy et al., 1994).
    """
    import cv2

    small = np.asarray(cv2.resize(np.ascontiguousarray(pixels), (PALETTE_SIDE, PALETTE_SIDE), interpolation=cv2.INTER_AREA), np.float32)
    lab = np.asarray(cv2.cvtColor(small / 255, cv2.COLOR_RGB2LAB), np.float64).reshape(-1, 3)
    at = (np.arange(QUANTILES) + 0.5) / QUANTILES
    quantiles: npt.NDArray[np.float64] = np.concatenate([np.quantile(lab[:, channel], at) for channel in range(3)]) / np.sqrt(QUANTILES)
    return quantiles


def tag_of(samples: Sequence[Sample], name: str) -> list[str | None]:
    """The value of a tag of each, `tag.NAME` or `NAME`. Raises: UserError where none has it."""
    key = name.removeprefix("tag.")
    values = [dict(sample.tags).get(key) for sample in samples]
    if all(value is None for value in values):
        known = Counter(tag for sample in samples for tag, _ in sample.tags)
        have = ", ".join(f"tag.{tag}" for tag, _ in known.most_common(12)) or "none"
        raise UserError(f"no picture has a tag {key!r}; there are: {have}", "--by", "name a tag of the rows")
    return values

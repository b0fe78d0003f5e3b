"""One evaluation from end to end: what is read, which figures come of it, and how they are said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from renderfarm.errors import UserError
from renderfarm.evaluate.campaign import Campaign, Consistency, consistency
from renderfarm.evaluate.distances import frechet
from renderfarm.evaluate.figures import BETWEEN, DIFFERENCE, OF_ONE, OF_OTHER, ONE_PICTURE, Figure, figures_of, shared_rows
from renderfarm.evaluate.fragility import Moved, fragility_figures, moved
from renderfarm.evaluate.gather import PictureSource, SampleSet, gather, opened
from renderfarm.evaluate.geneval import Judged, geneval_figures, judged, read_boxes
from renderfarm.evaluate.kept import ENDING, check_place, keep, kept
from renderfarm.models.features import cosine

if TYPE_CHECKING:
    from renderfarm.models.features import FeatureNet

LOWEST = 12
"""Pictures that fit their prompts least, which are shown."""
OUTLIERS_SAID = 10
CURVE = (0.125, 0.25, 0.5, 0.75, 1.0)
BINS = 24
ROUNDING = 1e-9
_SMALL = 10
"""FID wants so many times as many pictures as a feature has numbers; with fewer its bias is said in a note."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What to evaluate: names of outputs or folders; `reference` may also be a file of kept features."""

    output: str
    against: str | None = None
    reference: str | None = None
    features: Path | None = None
    by: str | None = None
    boxes: Path | None = None
    sample: int | None = None
    keep: Path | None = None


@dataclass(frozen=True, slots=True)
class PromptFit:
    """How well one picture fits its prompt, 0..100."""

    picture: str
    row: str
    prompt: str
    score: float


@dataclass(frozen=True, slots=True)
class Network:
    """What gave the features. `digest`: of all its files, SHA-256."""

    folder: str
    kind: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation found. `curve`: (pictures, FID) of ever more of them; `fits`: those of all pictures that have prompts."""

    output: str
    pictures: int
    rows: int
    against: str | None
    reference: str | None
    network: Network | None
    figures: tuple[Figure, ...]
    campaign: Campaign | None = None
    judged: tuple[Judged, ...] = ()
    curve: tuple[tuple[int, float], ...] = ()
    fits: tuple[PromptFit, ...] = ()
    moved: tuple[Moved, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def lowest(self) -> tuple[PromptFit, ...]:
        """The pictures that fit least, worst first."""
        return tuple(sorted(self.fits, key=lambda fit: fit.score)[:LOWEST])

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        wrong = [
            {"picture": one.sample.name, "row": one.sample.row, "task": one.task, "right": one.right, "reason": one.reason}
            for one in self.judged
        ]
        return {
            "output": self.output,
            "pictures": self.pictures,
            "rows": self.rows,
            "against": self.against,
            "reference": self.reference,
            "features": None if self.network is None else dataclasses.asdict(self.network),
            "figures": [figure.as_json() for figure in self.figures],
            "consistency": None if self.campaign is None else dataclasses.asdict(self.campaign),
            "objects": wrong,
            "fid_by_pictures": [list(point) for point in self.curve],
            "lowest": [dataclasses.asdict(fit) for fit in self.lowest],
            "moved": [dataclasses.asdict(pair) for pair in self.moved],
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """For people."""
        head = [f"{self.output}: {self.pictures} pictures of {self.rows} rows"]
        head += [f"against {self.against}"] * (self.against is not None) + [f"reference {self.reference}"] * (self.reference is not None)
        if self.network is not None:
            head.append(f"features by {self.network.kind}, {self.network.size} numbers, weights {self.network.digest[:16]}")
        lines = [*head]
        for of, title in (
            (OF_ONE, ""),
            (OF_OTHER, "against:"),
            (DIFFERENCE, "difference, against − output:"),
            (BETWEEN, "between the two:"),
        ):
            some = [figure for figure in self.figures if figure.of == of]
            lines += [title] * bool(some and title)
            lines += [f"  {figure.title:<28} {number(figure.value):>9}  {interval(figure)}" for figure in some]
        if self.campaign is not None:
            lines += campaign_lines(self.campaign)
        return [*lines, *(f"note: {note}" for note in self.notes)]


def number(value: float) -> str:
    """Four digits that count, as people read them."""
    return f"{value:.1f}" if abs(value) >= 1000 else "0" if abs(value) < ROUNDING else f"{value:.4g}"


def interval(figure: Figure) -> str:
    """Its interval, and what is behind it."""
    if figure.low is None or figure.high is None:
        return f"no interval, {figure.count} {counted(figure)}"
    text = f"[{number(figure.low)}, {number(figure.high)}]  {figure.count} {counted(figure)}"
    if figure.of == DIFFERENCE:
        return text + verdict(figure)
    return text + (f", about {number(figure.bias)} of it is bias" if figure.bias is not None else "")


def counted(figure: Figure) -> str:
    """What the number of a figure counts."""
    if figure.name == "geneval:prompts":
        return "prompts"
    return "rows" if figure.name.partition(":")[0] in ("moved", "fragility") else "pictures"


def verdict(figure: Figure) -> str:
    """Of a difference: whether its interval holds 0, and who is better where not."""
    if figure.low is None or figure.high is None or not figure.better:
        return ""
    if figure.low <= 0 <= figure.high:
        return ", no difference is shown"
    return ", against is better" if (figure.low > 0) == (figure.better == "higher") else ", output is better"


def campaign_lines(campaign: Campaign) -> list[str]:
    """Consistency in words."""
    lines = [f"by {campaign.tag}: {campaign.count} pictures"]
    for measure in campaign.measures:
        ratio = ratio_text(measure)
        lines.append(f"  {measure.measure:<9} differ by {number(measure.within)} within, {ratio}")
        lines += [f"    {circle.name}: {number(circle.distance)} ({circle.count} pictures)" for circle in measure.circles[:5]]
        lines += [
            f"    outlier {one.picture} of {one.group}: {number(one.distance)}, usual {number(one.usual)}"
            for one in measure.outliers[:OUTLIERS_SAID]
        ]
        if len(measure.outliers) > OUTLIERS_SAID:
            lines.append(f"    and {len(measure.outliers) - OUTLIERS_SAID} outliers more")
    return lines


def ratio_text(measure: Consistency) -> str:
    """Within as a share of between."""
    if measure.ratio is None or measure.between is None:
        return "and there is no other group to compare with"
    sure = "" if measure.low is None or measure.high is None else f" [{number(measure.low)}, {number(measure.high)}]"
    return f"{number(measure.ratio)}{sure} of the {number(measure.between)} between groups"


def evaluate(asked: Inquiry, on_read: Callable[[str, int, int], None] = lambda source, done, of: None) -> Evaluation:
    """Does what is asked. `on_read` hears how many pictures of a source were read.

    Raises: UserError for what cannot be evaluated, WeightsError; LogDamaged, StorageAway.
    """
    _asked(asked)
    net = None
    if asked.features is not None:
        from renderfarm.models.features import FeatureNet

        net = FeatureNet(asked.features, "auto")

    def read(source: PictureSource) -> SampleSet:
        return gather(source, net, asked.sample, lambda done, of: on_read(source.name, done, of))

    boxes = read_boxes(asked.boxes) if asked.boxes is not None else None
    ready = kept(Path(asked.reference), net.digest, net.size) if net is not None and _is_kept(asked.reference) else None
    named = (asked.output, asked.against, None if ready else asked.reference)
    sources = [None if name is None else opened(name) for name in named]
    for source in sources:  # before any is read
        if source is not None and len(source.samples) < 2:
            raise UserError(ONE_PICTURE, source.name, "render more, or name a larger folder")
    one, other, reference = (None if source is None else read(source) for source in sources)
    reference = reference or ready
    assert one is not None
    notes = [f"{chosen.source}: {note}" for chosen in (one, other, reference) if chosen is not None for note in chosen.notes]
    if asked.keep is not None and net is not None:
        keep(asked.keep, one, net.digest)
    campaign = consistency(one, asked.by) if asked.by is not None else None
    results = judged(one.samples, boxes) if boxes is not None else []
    figures: list[Figure] = []
    if net is not None:
        first, second = one, other
        if other is not None:
            first, second, left = shared_rows(one, other)
            notes += [left] * bool(left)
        figures += figures_of(first, reference, second)
    figures += geneval_figures(results)
    untold = sum(result.right is None for result in results)
    notes += [f"of {untold} pictures that ask for objects nobody can tell whether they are right"] * bool(untold)
    notes += _notes(figures, net, one, reference)
    network = Network(str(asked.features), net.kind, net.size, net.digest) if net is not None else None
    return Evaluation(
        asked.output, len(one.samples), len({sample.row for sample in one.samples}), asked.against, asked.reference, network,
        tuple(figures), campaign, tuple(results), _curve(one, reference), _fits(one), (), tuple(notes),
    )  # fmt: skip


def evaluate_fragility(output: str, features: Path, on_read: Callable[[str, int, int], None] = lambda source, done, of: None) -> Evaluation:
    """How far the pictures of an output that was rendered from `fragile_rows` moved. Raises: as `evaluate`."""
    from renderfarm.models.features import FeatureNet

    net = FeatureNet(features, "auto")
    found = gather(opened(output), net, None, lambda done, of: on_read(output, done, of))
    pairs = moved(found)
    network = Network(str(features), net.kind, net.size, net.digest)
    rows = len({pair.row for pair in pairs})
    figures = tuple(fragility_figures(pairs))
    return Evaluation(output, len(found.samples), rows, None, None, network, figures, moved=tuple(pairs), notes=found.notes)


def _asked(asked: Inquiry) -> None:
    """Raises: UserError where nothing can come of it."""
    if asked.features is not None:
        if asked.keep is not None:
            check_place(asked.keep)
        return
    needing = [name for name, value in (("--reference", asked.reference), ("--against", asked.against), ("--keep", asked.keep)) if value]
    remedy = "give --features WEIGHTS: a folder with CLIP, SigLIP or DINOv2"
    if needing:
        raise UserError("there is nothing to compare pictures by", needing[0], remedy)
    if asked.by is None and asked.boxes is None:
        raise UserError("there is nothing to evaluate by", "evaluate", f"{remedy}; or --by TAG, for colours; or --boxes FILE")


def _is_kept(reference: str | None) -> TypeGuard[str]:
    return reference is not None and reference.endswith(ENDING)


def _notes(figures: Sequence[Figure], net: FeatureNet | None, one: SampleSet, reference: SampleSet | None) -> list[str]:
    """What a reader must know of these figures."""
    if net is None or reference is None:
        return []
    notes = [f"FID and KID here are by {net.kind} features: published figures, by Inception's, are not comparable"]
    few = min(len(one.samples), len(reference.samples))
    if few < _SMALL * net.size:
        biases = [figure.bias for figure in figures if figure.name == "fid" and figure.bias is not None and figure.of == OF_ONE]
        about = f" by about {number(biases[0])}" if biases else ""
        what = f"FID of {few} pictures with {net.size} features is too large{about}"
        notes.append(f"{what}: compare it with bias removed, or with FIDs of as many pictures")
    return notes


def _curve(one: SampleSet, reference: SampleSet | None) -> tuple[tuple[int, float], ...]:
    """FID of ever more pictures, evenly drawn: where it has not settled, there are too few."""
    if one.features is None or reference is None or reference.features is None:
        return ()
    made, real, count = one.features.astype(np.float64), reference.features.astype(np.float64), len(one.features)
    sizes = sorted({size for share in CURVE if (size := round(count * share)) > 1})
    return tuple((size, frechet(made[np.arange(size) * count // size], real)) for size in sizes)


def _fits(one: SampleSet) -> tuple[PromptFit, ...]:
    """Every picture that has a prompt."""
    if one.features is None or one.words is None:
        return ()
    scores = 100 * np.maximum(0.0, cosine(one.features, one.words))
    told = [(sample, float(score)) for sample, score in zip(one.samples, scores, strict=True) if sample.prompt is not None]
    return tuple(PromptFit(sample.name, sample.row, sample.prompt or "", score) for sample, score in told)

"""The audit's way through the log: each part verified by itself, against the parts before it, and against checkpoints kept elsewhere.

A part that fails is named once, and its rows go no further. The walk goes on at the next good part, whose footer carries the log tree
before it, bound by its own signed checkpoint: so one bad part never makes its neighbours look bad.

Which log this is, is voted on by the first and the last part, the cached checkpoint and job.json's name: then a single foreign file is
the one to be blamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from renderfarm import notes
from renderfarm.audit.fanout import FanOut
from renderfarm.audit.findings import AuditReport
from renderfarm.audit.part import Examined, examine_all
from renderfarm.errors import NotStored, UserError
from renderfarm.log import parts
from renderfarm.log.parts import Footer, PartDamaged
from renderfarm.log.reading import fetch_parts, list_parts
from renderfarm.log.tree import Frontier
from renderfarm.notes import Checkpoint
from renderfarm.output import CHECKPOINT, JOB_FILE, JOB_FILE_BYTES_MAX, WITNESSED, part_key
from renderfarm.storage import Storage

Keys = Mapping[str, Ed25519PublicKey]

LOG_FINDINGS = frozenset({"part-missing", "part-altered", "record-altered", "checkpoint-bad-signature", "history-rewritten"})


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """A signed checkpoint from outside the parts, which they must agree with: where it lay, and why it counts."""

    where: str
    why: str
    checkpoint: Checkpoint


class LogWalk:
    """One pass over the parts. Iterate `verified()`, then call `finish()`; both name what they find in the report."""

    def __init__(
        self,
        storage: Storage,
        report: AuditReport,
        keys: Keys | None,
        quick: bool = False,
        since: Checkpoint | None = None,
        fan_out: FanOut | None = None,
    ) -> None:
        self.head: Checkpoint | None = None
        self._storage = storage
        self._report = report
        self._keys = keys
        self._quick = quick
        self._since = KeptCheckpoint("--since", "the checkpoint that was kept includes it", since) if since is not None else None
        self._fan_out = fan_out
        self._frontier = Frontier()
        self._anchored = True
        self._next = 0
        self._cached: KeptCheckpoint | None = None
        self._witnessed: KeptCheckpoint | None = None
        self._roots: dict[int, bytes] = {}
        self._votes: list[str] = []

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong with the log so far: only then do its sums mean anything."""
        return not LOG_FINDINGS & set(self._report.found)

    def verified(self) -> Iterator[Examined]:
        """The good parts in order. Raises: UserError, before any of them, when the kept checkpoint is of another log; StorageAway."""
        listing = list_parts(self._storage)
        for key in listing.strays:
            self._report.add("part-altered", key, "a file among the parts that is no part")
        self._report.parts = len(listing.numbers)
        self._ends(listing.numbers)
        self._cached = self._read_checkpoint(CHECKPOINT, "the copy of the newest checkpoint includes it")
        if self._cached is None and len(listing.numbers) > 1 and not self._report.found_at(CHECKPOINT):
            self._report.add("checkpoint-missing", CHECKPOINT, f"there are {len(listing.numbers)} parts")
        self._refuse_foreign()
        self._witnessed = self._read_checkpoint(WITNESSED, "a checkpoint that witnesses saw includes it")
        for number, outcome in examine_all(self._storage, listing.numbers, listing.size, self._quick, self._fan_out):
            self._miss(number)
            self._next = number + 1
            try:
                good = self._verify(outcome)
            except PartDamaged as damage:
                self._report.add(damage.finding, damage.key, damage.reason)
                self._anchored = False
                continue
            self._report.records += good.table.num_rows
            yield good

    def _verify(self, outcome: Examined | PartDamaged) -> Examined:
        if isinstance(outcome, PartDamaged):
            raise outcome
        footer = outcome.footer
        if self._keys is None:
            self._keys = parts.embedded_keys(footer)
        signer = parts.check_head(footer, self._keys)
        self._check_origin(footer)
        self._follow(footer)
        if outcome.rows is not None:
            raise outcome.rows
        if outcome.values is not None:
            self._report.add(outcome.values.finding, outcome.values.key, outcome.values.reason)
        self._report.forgotten += outcome.forgotten
        self._report.signer = notes.verifier_key(signer, self._keys[signer])
        self.head = footer.checkpoint
        return outcome

    def _check_origin(self, footer: Footer) -> None:
        if self._report.origin is None:
            self._report.origin = footer.checkpoint.origin
            self._refuse_foreign()
        if footer.checkpoint.origin != self._report.origin:
            reason = f"it belongs to {footer.checkpoint.origin}, not to {self._report.origin}"
            raise PartDamaged("part-altered", part_key(footer.number), reason)

    def _refuse_foreign(self) -> None:
        """A wrong file is said as soon as it is known which log this is: a picture is read hours later.

        Raises: UserError. A size beyond the log's, or another root, is no mistake of the auditor's but a finding.
        """
        since = self._since.checkpoint if self._since is not None else None
        if since is not None and self._report.origin not in (None, since.origin):
            raise UserError(f"the checkpoint is of {since.origin}, this log is {self._report.origin}", "--since", "name its own")

    def _follow(self, footer: Footer) -> None:
        """That the part continues the parts before it, as far as they are known. Takes it as the new end."""
        before, known = footer.before, self._frontier
        continues = before == known if self._anchored else _agree(known, before)
        if not continues:
            reason = "its signed checkpoint covers another history than the parts before it"
            raise PartDamaged("history-rewritten", part_key(footer.number), reason)
        self._frontier = before.append(footer.leaf)
        self._anchored = True
        if any(kept.checkpoint.size == footer.number + 1 for kept in self.checkpoints):
            self._roots[footer.number + 1] = footer.checkpoint.root

    def _miss(self, number: int, why: str = "later parts are there") -> None:
        """Names the parts from the expected one up to `number`, which is there."""
        if number <= self._next:
            return
        gone = number - self._next
        what = "it is not there" if gone == 1 else f"{gone} parts are not there, up to {part_key(number - 1)}"
        self._report.add("part-missing", part_key(self._next), f"{what}; {why}")
        self._anchored = False
        self._next = number

    @property
    def checkpoints(self) -> list[KeptCheckpoint]:
        """The checkpoints from outside the parts that a known key signed: of this log, as far as is known yet."""
        return [kept for kept in (self._cached, self._witnessed, self._since) if kept is not None]

    def _read_checkpoint(self, key: str, why: str) -> KeptCheckpoint | None:
        """A checkpoint that lies beside the parts, if a known key signed it; what is wrong with it is named."""
        try:
            checkpoint = notes.parse(self._storage.get(key, notes.NOTE_BYTES_MAX))
        except NotStored:
            return None
        except notes.NoteMalformed as error:
            self._report.add("checkpoint-altered", key, str(error))
            return None
        try:
            notes.verify(checkpoint, self._keys or {})
        except notes.NoteUntrusted as error:
            self._report.add("checkpoint-bad-signature", key, str(error))
            return None
        if key == CHECKPOINT:
            self._report.origin = _elected([*self._votes, checkpoint.origin, *self._job_vote()])
        if checkpoint.origin != self._report.origin:
            self._report.add("checkpoint-altered", key, f"it belongs to {checkpoint.origin}, not to {self._report.origin}")
            return None
        return KeptCheckpoint(key, why, checkpoint)

    def _ends(self, numbers: list[int]) -> None:
        """What the first and the last part say which log this is; without trust, the key that the log names."""
        for number, file in fetch_parts(self._storage, sorted({*numbers[:1], *numbers[-1:]}), with_values=False):
            try:
                footer = parts.read_footer(file, number)
                self._keys = self._keys or parts.embedded_keys(footer)
                parts.check_head(footer, self._keys)
            except PartDamaged:
                continue
            self._votes.append(footer.checkpoint.origin)
        self._report.origin = _elected([*self._votes, *self._job_vote()]) if self._votes else None

    def _job_vote(self) -> list[str]:
        """The origin that job.json's name gives, if it has one."""
        try:
            name = json.loads(self._storage.get(JOB_FILE, JOB_FILE_BYTES_MAX))["name"]
        except (NotStored, ValueError, KeyError, TypeError, RecursionError):
            return []
        return [notes.origin(name)] if isinstance(name, str) else []

    def finish(self) -> None:
        """What can only be said at the end: a tail that is gone, and checkpoints that were kept."""
        for kept in self.checkpoints:
            self._compare(kept)
            if kept is self._cached:
                self._say_behind(kept.checkpoint.size)

    def _say_behind(self, size: int) -> None:
        behind = self._next - size
        if behind == 1:
            self._report.notes.append("the copy of the newest checkpoint is one part behind, as after a crash")
        elif behind > 1:
            what = f"it is of {size} parts; {self._next} are there, and each commit renews it"
            self._report.add("checkpoint-rolled-back", CHECKPOINT, what)

    def _compare(self, kept: KeptCheckpoint) -> None:
        size = kept.checkpoint.size
        self._miss(size, kept.why)
        root = self._roots.get(size)
        if root is not None and root != kept.checkpoint.root:
            what = f"the log of {size} parts that was signed then is not the beginning of this one"
            self._report.add("history-rewritten", kept.where, what)
        elif root is None and size and self._anchored:
            self._report.notes.append(f"{kept.where}: part {size - 1} did not verify, so nothing could be compared with it")


def _elected(votes: list[str]) -> str:
    """The origin with the most votes; the earliest of them at a tie."""
    return max(votes, key=votes.count)


def _agree(old: Frontier, new: Frontier) -> bool:
    """Whether two frontiers of one log can both be true, as far as the subtrees that both still name tell."""
    if new.size < old.size:
        return False
    known = _subtrees(new)
    return all(known.get(place, root) == root for place, root in _subtrees(old).items())


def _subtrees(frontier: Frontier) -> dict[tuple[int, int], bytes]:
    """The roots of a frontier by (first leaf, number of leaves)."""
    places, start = {}, 0
    widths = [1 << bit for bit in reversed(range(frontier.size.bit_length())) if frontier.size >> bit & 1]
    for width, root in zip(widths, frontier.hashes, strict=True):
        places[start, width] = root
        start += width
    return places

"""What an audit says: named findings, each with where and what it means, notes, and the verdict. Values only."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from renderfarm.log.state import Counts

KEPT_MAX = 200
"""Findings of one name that are kept in full; the rest are counted."""

MEANINGS = {
    "part-missing": "a part of the log is gone; what it recorded can no longer be shown",
    "part-altered": "the file is not the part that was written; its records are not believed",
    "record-altered": "a record differs from what was signed; the records of its part are not believed",
    "values-altered": "values beside a part (prompts, row ids, texts, salts) are not what its records commit to; they are not believed",
    "checkpoint-bad-signature": "no trusted key signed this head; somebody else wrote it, or changed it",
    "checkpoint-missing": "the copy of the newest checkpoint is gone; the log itself may be whole",
    "checkpoint-altered": "the copy of the newest checkpoint is damaged; the log itself may be whole",
    "checkpoint-rolled-back": "the copy of the newest checkpoint is an old one; somebody put it back",
    "cosignature-bad": "a trusted witness's line under a checkpoint is not what the witness signs",
    "cosignature-missing": "a trusted witness has not cosigned this log; it cannot be shown to have only grown",
    "history-rewritten": "the log does not continue the history that was signed before",
    "job-missing": "job.json is gone; what the job asked for can no longer be read",
    "job-altered": "job.json is not the one that the newest plan was made from",
    "counts-differ": "more images have an end than the newest plan has images",
    "attempt-twice": "one attempt is recorded twice, or one image accepted twice",
    "review-unfounded": "a person's verdict is about no attempt of this log, or about another record of it",
    "statement-unsigned": "what a person said stands in the log without their signature",
    "statement-malformed": "a signed record keeps a person's note that is none; its writer is at fault",
    "statement-bad-signature": "a statement is not what that person signed",
    "statement-untrusted": "a statement is signed by nobody whose key is trusted",
    "statement-differs": "a record says something else than the statement that it keeps",
    "statement-unfounded": "a statement is about a record that is not in the log before it",
    "statement-twice": "one statement is recorded twice",
    "record-malformed": "a signed record says what no driver writes; the program that wrote it is at fault",
    "claim-differs": "a signed record's claim digest is not that of its own fields; its writer is at fault",
    "object-missing": "a recorded picture is gone",
    "object-altered": "a picture's bytes are not those that were recorded",
    "object-unreadable": "a recorded picture cannot be decoded, though its bytes are the recorded ones",
    "credential-absent": "a picture carries no credential, though its record says that one was made",
    "credential-invalid": "a picture's credential is damaged or belongs to other pixels",
    "credential-untrusted": "a picture's credential was signed under a certificate authority that is not trusted",
    "credential-expired": "a picture's signing certificate has expired since; it was good when the log was signed",
    "credential-mismatch": "a picture's credential belongs to another record",
    "watermark-unreadable": "a picture's pixels do not carry the mark that was recorded",
    "watermark-mismatch": "a picture's pixels carry the mark of another record",
}
"""Every finding's name, and what it means."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as the log says. `where`: a key in the output, with the row of a part behind `#`."""

    name: str
    where: str
    what: str
    image_id: str | None = None

    @property
    def meaning(self) -> str:
        """What a finding of this name means."""
        return MEANINGS[self.name]


@dataclass(slots=True)
class AuditReport:
    """What an audit found. Filled by the audit, then only read."""

    uri: str
    mode: str
    trusted: bool
    origin: str | None = None
    signer: str | None = None
    checkpoint: str | None = None
    parts: int = 0
    records: int = 0
    objects: int = 0
    objects_read: int = 0
    witnessed: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By each trusted witness's name, the most parts that it cosigned, and when: seconds since 1970 UTC."""
    forgotten: int = 0
    """Records whose values are gone: what they commit to can no longer be read."""
    orphans: int | None = None
    counts: Counts | None = None
    elapsed_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.found

    @property
    def exit_code(self) -> int:
        """0, or 4 with findings."""
        return 0 if self.ok else 4

    @property
    def verdict(self) -> str:
        """One phrase: what may be believed."""
        if not self.ok:
            count = sum(self.found.values())
            return "1 finding" if count == 1 else f"{count} findings"
        return "passed" if self.trusted else "self-consistent, not trusted"

    def found_at(self, where: str) -> bool:
        """Whether anything was found at this place."""
        return any(finding.where == where for finding in self.findings)

    def add(self, name: str, where: str, what: str, image_id: str | None = None) -> None:
        """One more finding. Raises: KeyError for a name without a meaning."""
        finding = Finding(name, where, what, image_id)
        if self.found[name] < KEPT_MAX and finding.meaning:
            self.findings.append(finding)
        self.found[name] += 1

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        counts = self.counts
        return {
            "output": self.uri,
            "verdict": self.verdict,
            "ok": self.ok,
            "trusted": self.trusted,
            "mode": self.mode,
            "log": self.origin,
            "signer": self.signer,
            "checkpoint": self.checkpoint,
            "witnessed": {name: {"parts": parts, "time_s": when} for name, (parts, when) in self.witnessed.items()},
            "parts": self.parts,
            "records": self.records,
            "objects": self.objects,
            "objects_read": self.objects_read,
            "forgotten": self.forgotten,
            "orphans": self.orphans,
            "counts": None
            if counts is None
            else {
                "planned": counts.planned,
                "accepted": counts.accepted,
                "exhausted": counts.exhausted,
                "failed": counts.failed,
                "remaining": counts.remaining,
            },
            "elapsed_s": round(self.elapsed_s, 3),
            "found": dict(self.found),
            "findings": [
                {
                    "name": finding.name,
                    "where": finding.where,
                    "what": finding.what,
                    "means": finding.meaning,
                    "image_id": finding.image_id,
                }
                for finding in self.findings
            ],
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """The report for people, without a line break at its end."""
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The report for people. What hostile records say is not escaped in it: whoever prints it does that, line by line."""
        signer = f", signed by {self.signer}" if self.signer else ""
        lines = [
            f"{self.uri}: {self.verdict}",
            f"  log      {self.origin or 'none'}: {self.parts} parts, {self.records} records{signer}",
            f"  pictures {self.objects} recorded, {self.objects_read} read ({self.mode})",
        ]
        for name, (parts, when) in sorted(self.witnessed.items()):
            moment = dt.datetime.fromtimestamp(when, dt.UTC)
            count = f"{parts} of {self.parts}" if parts < self.parts else str(parts)
            lines.append(f"  witness  {name} saw {count} parts on {moment:%Y-%m-%d %H:%M} UTC")
        if self.counts is not None:
            c = self.counts
            lines.append(
                f"  images   {c.planned} planned = {c.accepted} accepted + {c.exhausted} exhausted + {c.failed} failed"
                f" + {c.remaining} remaining"
            )
        listed: Counter[str] = Counter()
        for finding in self.findings:
            lines += [f"{finding.name}  {finding.where}", f"    {finding.what}"]
            listed[finding.name] += 1
            if listed[finding.name] == min(self.found[finding.name], KEPT_MAX):
                hidden = self.found[finding.name] - listed[finding.name]
                lines.append(f"    = {finding.meaning}" + (f" (and {hidden} more)" if hidden else ""))
        return [*lines, *(f"note: {note}" for note in self.notes)]

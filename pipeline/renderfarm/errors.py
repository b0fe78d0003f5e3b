"""The exception tree. What a user can cause exits 2 with one message; what the world causes is retried, then recorded.

RenderfarmError                 anything this program raises on purpose            exit 1
├── UserError                   what is wrong, where, and the remedy               exit 2
│   ├── JobError                the job file, an option or a setting
│   ├── ManifestError           the manifest as a whole (single faults are values: manifest.faults.Fault)
│   ├── WeightsError            weights that are missing, a pickle, or not usable
│   ├── KeysError               keys or certificates that are missing or malformed
│   ├── PictureError            a picture file that cannot be read
│   └── StorageRefused          a bucket or folder that does not exist or refuses us
├── Paused                      run again to go on                                  exit 75
│   ├── Stopped                 asked to stop before anything was rendered
│   ├── StorageAway             the storage stayed away beyond the retry budget
│   ├── FarmLost                no worker could be started, or all are gone
│   └── ManifestChanged         the manifest was replaced while it was rendered
├── NotUnderstood               a value of a brief that says nothing, or two things (becomes a fault with its place)
├── NotStored                   no object under this key
├── AlreadyStored               put-if-absent lost: the key holds other bytes
├── Fenced                      another driver owns this output                     exit 6
│   ├── AcceptedMeanwhile       a person accepted images that are to be recorded as accepted: a run leaves its own out and goes on
│   └── Overtaken               people's statements came first: what was to be said is judged again (never the end of a run)
├── LogDamaged                  the provenance log does not verify: resuming refuses exit 4
├── RenderFailed                one attempt could not be rendered (recorded as failed)
├── MarkUnsupported             a picture that cannot carry the watermark
├── CredentialFailed            the credential could not be written or read
└── Undelivered                 a notification, or what was posted to a witness, did not arrive (a log line, never the end of a run)

Every class passes all its arguments to `Exception.__init__`, so each survives pickling, and with it Ray.
"""

from __future__ import annotations

from collections.abc import Sequence

INCOMPLETE = 3
"""Exit code of a job that finished with some images exhausted or failed."""
PAUSED = 75
"""Exit code of a run that goes on when it is called again (EX_TEMPFAIL of sysexits.h)."""
SUCCESS = (0, INCOMPLETE, PAUSED)
"""What a service manager should count as success."""


class RenderfarmError(Exception):
    """Base of everything raised on purpose."""

    exit_code = 1

    def lines(self) -> list[str]:
        """The message as it is shown, each line for itself: what others wrote may hold line breaks too."""
        return [str(self)]


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class NotUnderstood(RenderfarmError):
    """A value that says nothing, or may say two things: `what` is wrong, and the `remedy`. Whoever knows its place makes a fault of it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy


class UserError(RenderfarmError):
    """Something the user can mend: `what` is wrong, `where`, the `remedy`; `details`: each single fault, where there are several."""

    exit_code = 2

    def __init__(self, what: str, where: str = "", remedy: str = "", details: Sequence[str] = ()) -> None:
        super().__init__(what, where, remedy, details)
        self.what = what
        self.where = where
        self.remedy = remedy
        self.details = details

    def lines(self) -> list[str]:
        """What and where, one line for each detail, the remedy."""
        head = f"{self.where}: {self.what}" if self.where else self.what
        return [head, *(f"  {detail}" for detail in self.details), *([f"  remedy: {self.remedy}"] if self.remedy else [])]

    def __str__(self) -> str:
        return "\n".join(self.lines())


class JobError(UserError):
    """The job file, an option or a setting is wrong."""


class ManifestError(UserError):
    """The manifest cannot be used as a whole."""


class WeightsError(UserError):
    """Weights are missing, a pickle, or not usable."""


class KeysError(UserError):
    """Keys or certificates are missing or malformed."""


class PictureError(UserError):
    """A picture file cannot be read."""


class StorageRefused(UserError):
    """The bucket or folder does not exist, or refuses the credentials."""


class Paused(RenderfarmError):
    """What is rendered is committed; the same command, run again, goes on."""

    exit_code = PAUSED


class Stopped(Paused):
    """Asked to stop before anything was rendered."""


class StorageAway(Paused):
    """The storage did not answer within the retry budget."""


class FarmLost(Paused):
    """No worker could be started, or all are gone: run again when there is room."""


class ManifestChanged(Paused):
    """The manifest is not what was planned any more: run again, and the new one is planned."""


class NotStored(RenderfarmError):
    """No object lies under this key."""


class AlreadyStored(RenderfarmError):
    """Put-if-absent found the key taken."""


class Fenced(RenderfarmError):
    """Another driver owns this output."""

    exit_code = 6


class AcceptedMeanwhile(Fenced):
    """A person accepted these images, by their ids, while they were rendered here: nothing of the part was written."""

    def __init__(self, what: str, images: frozenset[str]) -> None:
        super().__init__(what, images)
        self.images = images

    def __str__(self) -> str:
        return str(self.args[0])


class Overtaken(Fenced):
    """Other statements lie where ours were to go. They are taken in, ours are not: whoever made ours makes them again."""


class LogDamaged(RenderfarmError):
    """The provenance log does not verify; nothing is appended to it."""

    exit_code = 4


class RenderFailed(RenderfarmError):
    """One attempt could not be rendered."""


class MarkUnsupported(RenderfarmError):
    """A picture that cannot carry the watermark: too small, or saturated all over."""


class CredentialFailed(RenderfarmError):
    """A C2PA credential could not be written or read."""


class Undelivered(RenderfarmError):
    """What should be told did not arrive, and names neither URL nor token. `passing`: a further try may help."""

    def __init__(self, why: str, passing: bool = True) -> None:
        super().__init__(why, passing)
        self.passing = passing

    def __str__(self) -> str:
        return str(self.args[0])

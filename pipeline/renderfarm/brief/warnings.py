"""What a person should see of a row before money is spent: all who warn, in the order in which they are shown.

A warner takes a good row and gives (column, what, remedy) for each doubt. `manifest check` and `manifest build` show them with the row's
place, and exit 0; with `--strict` they are faults. Whoever has a new one adds it to `warners`.
"""

from __future__ import annotations

from renderfarm.brief import asked
from renderfarm.brief.alike import Alike
from renderfarm.brief.doubtful import damaged, identity, placeholders, too_small
from renderfarm.brief.foreign import foreign_syntax
from renderfarm.job import JobSettings
from renderfarm.manifest import Warner


def warners(job: JobSettings | None = None) -> list[Warner]:
    """All warners, made anew for one pass over a manifest: some remember rows. With a job, those that know its model too."""
    always: list[Warner] = [
        placeholders,
        damaged,
        identity,
        foreign_syntax,
        too_small,
        asked.lettering,
        asked.scripts,
        asked.objects,
        Alike(),
    ]
    if job is None:
        return always
    from renderfarm.brief.reads import of_job

    return [*always, *of_job(job)]

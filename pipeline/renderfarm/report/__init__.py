"""The contact sheet: a page over the provenance log that opens from disk or from a bucket, without a server.

`write` streams the records into `report/index.html` and chunks of data beside it. The page loads thumbs only, and
a record and its full image when one is clicked. It is derived: delete it, and `renderfarm report` makes it again.
"""

from __future__ import annotations

from renderfarm.report.summary import Summary, summary_of
from renderfarm.report.write import write

__all__ = ["Summary", "summary_of", "write"]

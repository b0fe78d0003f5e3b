"""Where images come from, so that an auditor can trust it: records, the signed log of them, and what reads both.

Who does what: `record` and `canonical` (rows and the bytes that are hashed), `log` (Merkle trees), `checkpoint` (the
signed head), `parts` (the files of the log, read with care), `writer` (the only one that writes them), `state` (what
the log says of each image), `audit` and `identify` (which import no writer), `bundle` (one record's proof as a file),
`export` (the log for others), `credential` (C2PA).
"""

"""C2SP notes: `checkpoint` is the signed head of a log, `cosign` what witnesses sign over it. Pure."""

"""Where images come from, so that an auditor can trust it: records, the signed log of them, and what reads both.

    record, canonical        rows, and the bytes of a row that are hashed
    log, checkpoint          Merkle trees and their proofs; the signed head (both pure)
    parts, bounds, reading   the files of the log, read with care; streams of them
    state, snapshot          what the log says of each image; a signed short cut to it
    writer                   the only one that writes the log
    cosign, witness          what witnesses sign, and how they are told
    audit, findings          what an auditor calls, and what it says; behind it `examine` (a part by itself), `walk` (the log),
                             `tally` (counts), `presence` (what lies there), `objects` (each picture), `fanout` (all cores),
                             `buckets` (rows beyond memory), `thrift` (a Parquet footer, before Arrow sees it)
    identify                 a picture → its record, by `evidence` and `lookup`
    bundle, export           one image's proof as a file; the log for others
    credential               C2PA
    orphans, rate            what no record names; how fast images came lately

Neither `audit` nor `identify` imports the writer.
"""

"""The provenance log: what made each picture, signed, so that an auditor can trust it.

record, canonical            rows, and the bytes of a row that are hashed
tree                         Merkle trees and their proofs (pure)
parts, reading               the files of the log, read with care; streams of them
parquet_footer, decoded_size a Parquet footer and what its pages come to, before Arrow sees them
state, snapshot              what the log says of each image; a signed short cut to it
writer                       the only one that writes the log
proofs, export               one image's proof as a file; the log for others
find, rate, orphans          one image's records; how fast images came lately; what no record names
"""

"""The provenance log: what made each picture, signed, so that an auditor can trust it.

tree                    Merkle trees and their proofs (pure)
parts, reading          the files of the log, read with care; streams of them
guarded, parquet_footer,
decoded_size            a Parquet file before Arrow sees it: its footer, what its pages come to
values, salts, index    what lies beside a part and can be forgotten; salted names; where names lie
state, snapshot         what the log says of each image; a signed short cut to it
writer, lease           the only one that writes the log; who may, on a storage that cannot fence
proofs, export          one image's proof as a file; the log for others
find, rate, orphans     one image's records; how fast images came lately; what no record names
"""

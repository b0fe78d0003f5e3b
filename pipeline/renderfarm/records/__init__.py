"""Records as rows, columns and bytes: what is hashed, signed and kept. Reads and writes no file.

tables         rows ⇄ Arrow tables, the columns of each version, old rows seen as new ones
canonical      the bytes of a row; claim digests; commitments to what lies beside
column_bytes   the same bytes, a whole table at a time
nested         columns inside columns
"""

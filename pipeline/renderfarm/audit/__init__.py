"""Re-derives every claim of an output. Imports no writer.

audit, findings   what an auditor calls, and what it says
log, part         the walk over the log; one part by itself
counts            images by state, from the records alone
presence          what lies in the output against what is recorded
pictures          each picture against its record
fanout            the work over all cores, or a cluster
spill             rows beyond memory
"""

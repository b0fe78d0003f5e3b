"""Checks: one finished image and its manifest row in, one verdict out.

`base` is the interface, `settings` the job file's `checks:` section, `registry` orders, builds and runs them. Every other module here
is one check. Nothing in this package writes a file, knows Ray, or decides about retries.
"""

"""Renderfarm: a Parquet file of prompts in, images out that are marked, checked, stored and provable."""

__version__ = "0.1.0"

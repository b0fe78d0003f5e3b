"""Attempts in, uint8 pictures out. Importing this package is light; torch and diffusers come with the first
`Renderer`."""

from renderfarm.render.renderer import CHUNK_END, Renderer

__all__ = ["CHUNK_END", "Renderer"]

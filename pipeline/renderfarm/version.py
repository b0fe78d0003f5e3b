"""The version of this program, as records name it."""

__version__ = "0.1.0"

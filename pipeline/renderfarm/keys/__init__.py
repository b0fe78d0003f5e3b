"""Key sets and trust folders."""

"""Picture files: encode, metadata, fingerprints."""

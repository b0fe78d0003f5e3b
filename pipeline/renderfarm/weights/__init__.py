"""Files of weights, before anything loads them: what a header says, which bytes they are, what an adapter changes and where.

headers        safetensors and GGUF headers, read within bounds; pickles refused
fingerprint    digests of files, remembered by their stamps
layers         the names that trainers give to a model's layers
deltas         what an adapter's tensors do to a layer, by format
"""

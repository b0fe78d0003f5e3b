"""How much of a prompt a family's text encoder reads, and which words it would not. Counted by the weights' own tokenizer, without torch.

diffusers cuts what is longer and says so in a log that nobody reads; here the plan, the record or a refusal says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renderfarm.errors import WeightsError
from renderfarm.models.layout import read_json

CLIP = (
    *("StableDiffusionPipeline", "LatentConsistencyModelPipeline", "StableDiffusionXLPipeline"),
    *("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline"),
)
"""Pipelines whose prompts only CLIP reads: long ones can be encoded in chunks."""

READS: Mapping[str, tuple[tuple[str, int], ...]] = {
    **dict.fromkeys(CLIP, (("tokenizer", 75),)),
    "StableDiffusion3Pipeline": (("tokenizer_3", 255), ("tokenizer", 75)),
    "FluxPipeline": (("tokenizer_2", 511),),
    "FluxKontextPipeline": (("tokenizer_2", 511),),
    "FluxFillPipeline": (("tokenizer_2", 511),),
    "ChromaPipeline": (("tokenizer", 511),),
    "Lumina2Pipeline": (("tokenizer", 255),),
    "CogView4Pipeline": (("tokenizer", 1022),),
    "PixArtAlphaPipeline": (("tokenizer", 119),),
    "PixArtSigmaPipeline": (("tokenizer", 299),),
    "SanaPipeline": (("tokenizer", 298),),
    "Flux2KleinPipeline": (("tokenizer", 509),),
    "ZImagePipeline": (("tokenizer", 509),),
    "QwenImagePipeline": (("tokenizer", 1024),),
}
"""Class → the tokenizer of the encoder that reads furthest (the first that the weights have), and the tokens of a prompt that it reads:
`max_sequence_length` of the class's `encode_prompt` in diffusers 0.42 without special tokens and what its template puts before."""


BEFORE: Mapping[str, str] = {
    "Lumina2Pipeline": "You are an assistant designed to generate superior images with the superior degree of image-text "
    "alignment based on textual prompts or user prompts. <Prompt Start> ",
}
"""Class → what diffusers puts before every prompt, and what takes of the tokens that are read."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What reads prompts: a tokenizer (of the library `tokenizers`), and how many tokens of one are read."""

    tokenizer: Any
    tokens_max: int
    before: str = ""
    words: tuple[tuple[str, str], ...] = ()
    """Words of textual inversions → the words, one a vector, that stand in their place."""

    def lost(self, text: str) -> str:
        """The end of a text that is not read; empty when all is."""
        if not self.before and 2 * len(text.encode("utf-8", "replace")) <= self.tokens_max:  # no tokenizer makes two of a byte
            return ""
        for word, spelled in self.words:
            text = text.replace(word, spelled)
        encoded = self.tokenizer.encode(self.before + text, add_special_tokens=False)
        if len(encoded.ids) <= self.tokens_max:
            return ""
        return text[max(encoded.offsets[self.tokens_max][0] - len(self.before), 0) :].strip()


def reader_of(folder: Path, pipeline_class: str, embeddings: Mapping[str, int] | None = None) -> Reader | None:
    """What reads prompts in the weights of a folder; None where that cannot be told. `embeddings`: words of textual inversions, and their
    vectors. Raises WeightsError: a damaged tokenizer."""
    for name, tokens_max in READS.get(pipeline_class, ()):
        place = folder / name
        if not (place / "tokenizer_config.json").is_file():
            continue
        config = read_json(place / "tokenizer_config.json")
        if pipeline_class in CLIP and isinstance(config.get("model_max_length"), int):
            tokens_max = min(tokens_max, config["model_max_length"] - 2)
        tokenizer = _tokenizer(place)
        words = {word: " ".join([word, *(f"{word}_{at}" for at in range(1, count))]) for word, count in (embeddings or {}).items()}
        if tokenizer and words:
            tokenizer.add_tokens([one for spelled in words.values() for one in spelled.split()])
        return tokenizer and Reader(tokenizer, tokens_max, BEFORE.get(pipeline_class, ""), tuple(words.items()))
    return None


def _tokenizer(place: Path) -> Any:
    """A tokenizer from its own file, or CLIP's from vocabulary and merges, as `transformers.CLIPTokenizer` builds it; None for others."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    try:
        if (place / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            return tokenizer
        if not (place / "vocab.json").is_file():
            return None
        bpe = {"unk_token": "<|endoftext|>", "end_of_word_suffix": "</w>", "continuing_subword_prefix": "", "fuse_unk": False}
        tokenizer = Tokenizer(models.BPE.from_file(str(place / "vocab.json"), str(place / "merges.txt"), **bpe))
    except Exception as error:  # the library raises nothing narrower
        raise WeightsError(f"the tokenizer cannot be read ({error})", str(place), "download the folder again") from error
    words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    split = pre_tokenizers.Split(Regex(words), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer

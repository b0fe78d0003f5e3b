"""Keeps the Hugging Face libraries silent and off the network, in this process only."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

FOREIGN = r"(diffusers|transformers|peft|accelerate|huggingface_hub)\."
"""Modules whose deprecation warnings are for their own maintainers."""


def quieten() -> None:
    """Turns off telemetry, network access, progress bars and chatter below errors."""
    for name in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS", "DISABLE_TELEMETRY"):
        os.environ[name] = "1"
    import diffusers.utils.logging as diffusers_logging
    import huggingface_hub.constants as constants
    import transformers.utils.logging as transformers_logging

    constants.HF_HUB_OFFLINE = True  # the variables are read at import, which may have happened before
    constants.HF_HUB_DISABLE_TELEMETRY = True
    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()
        logging.set_verbosity_error()


@contextmanager
def without_foreign_warnings() -> Iterator[None]:
    """Drops deprecation warnings that those libraries cause among themselves (diffusers' Euler sampler warns with NumPy
    2.4)."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=FOREIGN)
        warnings.filterwarnings("ignore", message="Already found a `peft_config`", category=UserWarning)
        yield

"""Keeps the Hugging Face libraries silent and off the network, in this process only."""

from __future__ import annotations

import os
import warnings

FOREIGN = r"(diffusers|transformers|peft|accelerate|huggingface_hub)\."
"""Modules whose deprecation warnings are for their own maintainers."""

_filters: list[object] = []  # what `drop_foreign_warnings` put into `warnings.filters`; a test may have taken it out again


def quieten() -> None:
    """Turns off telemetry, network access, progress bars, chatter below errors, and warnings that are not for us."""
    drop_foreign_warnings()
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


def drop_foreign_warnings() -> None:
    """From now on drops warnings that those libraries cause among themselves (diffusers' Euler sampler warns with NumPy 2.4, peft of a
    second adapter).

    For the whole process, not for a block: `warnings.catch_warnings` puts back a list that another thread may have changed. Costs nothing
    when it was done before.
    """
    if _filters and all(known in warnings.filters for known in _filters):
        return
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category, module=FOREIGN)
    warnings.filterwarnings("ignore", message="Already found a `peft_config`", category=UserWarning)
    _filters[:] = warnings.filters[:3]

"""Keeps model libraries off the terminal while they load."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence progress bars and advice, which are not for our users; put back what was set.

    Concerns transformers, and diffusers where that is imported already.
    """
    from transformers.utils import logging

    with ExitStack() as undo:
        modules = [logging, sys.modules.get("diffusers.utils.logging")]
        for module in filter(None, modules):
            undo.callback(module.set_verbosity, module.get_verbosity())
            module.set_verbosity_error()
        if logging.is_progress_bar_enabled():
            undo.callback(logging.enable_progress_bar)
            logging.disable_progress_bar()
        yield

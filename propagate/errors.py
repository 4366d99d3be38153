"""Errors a user can meet. Each message names the bad value, what is allowed, and the fix."""

from __future__ import annotations


class PropagateError(Exception):
    """Base of every error raised on purpose; its text is one sentence meant for the user."""


class InputError(PropagateError, ValueError):
    """A value, file or option given by the user is not usable as it is."""


class ClipError(InputError):
    """A clip cannot be opened, or holds no picture that decodes."""


class LabelError(InputError):
    """A mask or keypoint file does not fit its clip or its format."""


class ModelError(PropagateError):
    """Weights are missing, unreachable, gated, or do not have the expected layout."""


class OutputError(PropagateError):
    """The output folder cannot be written, or holds something that must not be lost."""

"""Mask formats: one file each with a `FORMAT`, found by being there; see `format_registry`."""

"""Ablations: every combination of some knobs, scored on a data set, resumable."""

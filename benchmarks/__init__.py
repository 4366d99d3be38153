"""Measurements of speed and memory, always as a ratio to a reference in the same run."""

"""Carry labels from one annotated frame through a whole video, with no training."""

__version__ = "0.1.0"

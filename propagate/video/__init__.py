"""Clip readers: one file per kind of source behind one protocol."""

"""Matching of images that need not show the same thing: no clip, no window, other sizes."""

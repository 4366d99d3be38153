"""Two images in, matches out: the same parts of two things, or the same points of one scene."""

"""One file per keypoint format, found by being there; see `base.py`."""

"""DeepLabCut's HDF5 files, refused since their column names are pickles, which run code.

The message says how to get the CSV that DeepLabCut reads and writes beside them.
"""

from __future__ import annotations

from pathlib import Path

from propagate.errors import LabelError
from propagate.labels.keypoint_formats.base import KeypointFile, KeypointFormat


def _refuse(path: Path) -> KeypointFile:
    raise LabelError(
        f"The keypoint file {path} is HDF5 as pandas writes it, where names are pickles that "
        "could run code, so it is not read; export CSV from DeepLabCut (save_as_csv=True), or by "
        f'Python: pandas.read_hdf("{path.name}").to_csv("{path.stem}.csv").'
    )


FORMAT = KeypointFormat("deeplabcut-h5", (".h5", ".hdf5"), lambda _: True, _refuse)

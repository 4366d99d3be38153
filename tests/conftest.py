"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Test processes run side by side; torch's threads would wait for each other. Before torch loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says nothing where other processes compute.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real clips and oracles beside the checkout; skips where it is absent."""
    folder = ROOT.parent / "shared"
    if not (folder / "oracles").is_dir():
        pytest.skip("needs the ../shared folder of research data and oracles, absent here")
    return folder

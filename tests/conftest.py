"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("nmref", deadline=None)  # a slow machine is no failure
settings.load_profile("nmref")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of other people's texts and models, which the project does not contain."""
    folder = Path(
        os.environ.get("NMREF_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data"
    )
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set NMREF_TEST_DATA")
    return folder

"""Comparisons with other people's programs, which need not be installed."""

import pytest

collect_ignore = ["account.py"]  # imports torch, and has no doctests


@pytest.fixture(autouse=True)
def one_thread(request):
    """Torch on small matrices: more threads only wait for each other."""
    torch = getattr(request.module, "torch", None)  # a test without it is skipped
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

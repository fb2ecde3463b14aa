"""Comparisons with other people's programs, which need not be installed."""

collect_ignore = ["account.py"]  # imports torch, and has no doctests

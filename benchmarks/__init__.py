"""Measurements: they report, they never assert.  `python -m benchmarks --help`."""

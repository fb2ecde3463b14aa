"""Compiled loops over plain arrays.  Callers validate; kernels trust."""

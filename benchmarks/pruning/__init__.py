"""Perplexity of a small model after every way of pruning it: docs/pruning.md's tables."""

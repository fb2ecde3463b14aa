"""Measures of a model: perplexity."""

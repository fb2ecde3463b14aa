"""The paper's pruning pipeline (arXiv 2507.03052)."""

from nmref.prune.pipeline import Recipe, Score, Summary, prune, prune_blocks, prune_weight

__all__ = ["Recipe", "Score", "Summary", "prune", "prune_blocks", "prune_weight"]

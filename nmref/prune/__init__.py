"""The paper's pruning pipeline (arXiv 2507.03052), and the methods it is compared to."""

from nmref.prune.packing import prune
from nmref.prune.pipeline import prune_blocks, prune_weights
from nmref.prune.settings import Recipe
from nmref.prune.stages import Pruned, prune_weight

__all__ = ["Pruned", "Recipe", "prune", "prune_blocks", "prune_weight", "prune_weights"]

"""The paper's pruning pipeline (arXiv 2507.03052), and the methods it is compared to."""

from nmref.prune.run.packing import prune
from nmref.prune.run.pipeline import prune_blocks, prune_weights
from nmref.prune.run.stages import Pruned, prune_weight
from nmref.prune.settings import Recipe

__all__ = ["Pruned", "Recipe", "prune", "prune_blocks", "prune_weight", "prune_weights"]

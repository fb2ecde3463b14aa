"""What a recipe can say about every stage; the stages' functions take these or their fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nmref.pattern import NMPattern

Score = Literal["magnitude", "wanda", "relative", "ria", "gradient"]
Update = Literal["none", "sparsegpt", "alps"]
Place = Literal["structured", "matrix", "row"]
Permutation = Literal["none", "heuristic", "hungarian"]


@dataclass(frozen=True)
class Equalization:
    """Score-only scaling of the columns (paper section 3.1, Eq. 1).

    s_j = (max |x_j| / max_i |W_ij|) ** power.  The score sees W s ("multiply") or W / s ("divide",
    the paper's letters); with `scale_activation` the norms are scaled the other way.
    """

    direction: Literal["multiply", "divide"] = "multiply"
    power: float = 0.5
    scale_activation: bool = False


@dataclass(frozen=True)
class Correction:
    """Variance correction of the base weights (paper section 3.2, Eq. 2)."""

    numerator: Literal["dense", "rest"] = "rest"
    """Variance of all dense weights (the paper's letters), or of those that are not outliers."""
    scope: Literal["matrix", "row"] = "matrix"


@dataclass(frozen=True)
class Tuning:
    """Block-wise fine-tuning with a fixed mask (paper section 3, stage 4; EBFT)."""

    epochs: int = 4
    batch: int = 2
    """Samples of one step."""
    rate: float = 1e-3
    """At the beginning; the original's 2e-4 is for five to ten times as many steps."""
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    decay: float = 0.1
    """Decoupled, as in AdamW."""
    clip: float = 1.0
    """Largest norm of all gradients of a step together."""
    loss: Literal["squared", "normalized"] = "squared"
    """Mean squared error, or that of each token over the mean square of its target."""
    teacher: Literal["pruned", "dense"] = "pruned"
    """What the dense block gives for the inputs that the pruned blocks before make, or what the
    dense model gives there: then a block makes good what those before it lost."""
    gains: bool = True
    """Tune the RMSNorm gains of the block too."""
    outliers: bool = False
    """Tune the outliers too; the paper does not."""
    seed: int = 0
    """Of the order of the samples."""


@dataclass(frozen=True)
class Solver:
    """The second-order update of the weights that stay."""

    method: Update = "none"
    damping: float = 0.01
    """Of the mean of the Hessian's diagonal."""
    block: int = 128
    """SparseGPT: columns whose update is applied at once; a multiple of M."""
    iterations: int = 300
    """ALPS: at most."""
    keep_mask: bool = False
    """The score's mask stays and only the weights change; else the solver chooses the mask."""


@dataclass(frozen=True)
class Allocation:
    """OWL: N of every layer by its share of large scores."""

    multiple: float = 5.0
    """A score counts as large above this many times the mean of its layer."""
    span: float = 2.0
    """Difference of N between the layers with the fewest and the most of them, before rounding."""


@dataclass(frozen=True)
class Rule:
    """What is done to the weights whose name matches a glob, where it is not the recipe's default.

    `pattern` None: left dense.
    """

    match: str
    pattern: NMPattern | None
    outliers: NMPattern | None = None


@dataclass(frozen=True)
class Recipe:
    """How to prune, stage by stage; None or "none" leaves a stage out."""

    pattern: NMPattern
    outliers: NMPattern | None = None
    """Structured outliers n:256; with another `place`, as many as this pattern would take."""
    score: Score = "ria"
    exponent: float = 0.5
    """Of the activation norm in RIA."""
    place: Place = "structured"
    """Where outliers are chosen: n of every 256 columns, or unstructured in the matrix or row."""
    equalize: Equalization | None = None
    permute: Permutation = "none"
    """Of the channels between two linears, folded into both (MLP width, values)."""
    permute_all: bool = False
    """Masks are N:M only after a permutation of the inputs: to be measured, never packed."""
    allocate: Allocation | None = None
    solver: Solver = Solver()
    correct: Correction | None = None
    tune: Tuning | None = None
    rules: tuple[Rule, ...] = ()

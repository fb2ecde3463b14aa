"""ALPS: choose the mask and the weights together by ADMM, then solve for the weights that stay.

Meng et al. 2024 (ALPS), section 3.  With H normalised to a diagonal of 1, it looks for D with N of
every M columns that minimises tr (W - D) H (W - D)^T, by steps that need only (H + rho I)^-1:

    B = (W H - V + rho D)(H + rho I)^-1     the best weights near D
    D = the N largest of B + V / rho        the nearest N:M matrix
    V = V + rho (B - D)                     what they disagree about, added up

rho starts small and grows by what the mask still changes, until it does not.  Then the weights that
stay are solved for by conjugate gradients.

The constants are those of the authors' code.  Other than there, the last D is the result and not
the N:M choice of the last B; all begins again at a smaller rho where nothing at all changed, too;
nothing ends before rho has grown; and damping and dead columns are as in SparseGPT's code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nmref.pattern import NMPattern
from nmref.prune.choose.mask import top_n
from nmref.prune.update.hessian import damped, dead, not_positive
from nmref.prune.update.sparsegpt import check_arguments

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

FIRST_RHO = 0.1
LEAST_RHO, MOST_RHO = 1e-6, 1e6

CHECK = 3
"""Steps between two looks at the mask."""

GROWTH = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))
"""Where more than this share of the stored weights changed between two looks, rho grows by this.
One weight that goes for another that comes counts as two changes."""

TOO_STIFF = 0.005
"""A rho that lets no more than this share change from the beginning is too large: all begins again
with a fifth of it."""

SETTLED, EARLIEST = 0.0003, 30
"""From this step on, a smaller change ends it."""

REFIT_STEPS = 10
"""Of conjugate gradients after ADMM, which leaves little to do."""

MASK_STEPS = 100
"""The same where the mask is given."""

TOLERANCE = 1e-3
"""Of a gradient, against the first one."""


@dataclass(frozen=True)
class Spectrum:
    """A damped, normalised Hessian and its eigenvectors; linear layers of one input share it."""

    matrix: F32
    """S^-1 (H + damping) S^-1, [K, K] with diagonal 1."""
    scale: F32
    """S, [K]: the square roots of the damped diagonal."""
    dead: Bool
    """[K]: columns whose weights become 0."""
    values: F64
    """Eigenvalues [K], ascending."""
    vectors: F32
    """Eigenvectors [K, K], one a column."""

    @classmethod
    def of(cls, hessian: F32, damping: float = 0.01) -> Spectrum:
        """Of a Hessian [K, K].  Raises as `alps`."""
        h = damped(hessian, damping)
        if not (np.diagonal(h) > 0).all():
            raise not_positive()
        scale: F32 = np.sqrt(np.diagonal(h))
        matrix: F32 = h / scale / scale[:, None]
        values, vectors = np.linalg.eigh(matrix.astype(np.float64))
        if not values[0] > 0:
            raise not_positive()
        return cls(matrix, scale, dead(hessian), values, vectors.astype(np.float32))

    def inverse(self, rho: float) -> F32:
        """(matrix + rho I)^-1, [K, K]."""
        inverted = np.reciprocal(self.values + rho).astype(np.float32)
        product: F32 = np.matmul(self.vectors * inverted, self.vectors.T)
        return product


def alps(
    weight: F32,
    hessian: F32 | Spectrum,
    pattern: NMPattern,
    *,
    salient: Bool | None = None,
    mask: Bool | None = None,
    damping: float = 0.01,
    iterations: int = 300,
) -> tuple[F32, Bool]:
    """The updated weights [R, K], zero where not kept, and the base mask [R, K].

    Shapes: weight [R, K]; hessian [K, K], or its Spectrum, which has its own damping.  `salient`
    [R, K]: weights that stay beside the N of the base, and are updated too.  `mask` [R, K]: the
    base mask, if it has been chosen already; then only the weights are solved for.  `iterations`:
    steps of ADMM at most.  Weights of dead columns become 0.

    Raises T_ARGUMENT for shapes and overlapping masks, T_TENSOR for a weight that is not finite,
    T_SCORE where the Hessian is not finite or not positive definite.
    """
    spectrum = hessian if isinstance(hessian, Spectrum) else Spectrum.of(hessian, damping)
    check_arguments(weight, spectrum.matrix, salient, mask)
    outside = np.zeros(weight.shape, dtype=np.bool_) if salient is None else salient
    dense = np.where(spectrum.dead, np.float32(0), weight) * spectrum.scale
    if mask is None:
        start, base = admm(dense, spectrum, pattern, outside, iterations)
        steps = REFIT_STEPS
    else:
        start, base, steps = dense, mask.copy(), MASK_STEPS
    kept = (base | outside) & ~spectrum.dead
    return refit(dense, spectrum.matrix, kept, start, steps) / spectrum.scale, base


def admm(
    dense: F32, spectrum: Spectrum, pattern: NMPattern, outside: Bool, iterations: int
) -> tuple[F32, Bool]:
    """D and its base mask, both [R, K]; `dense` [R, K] is W S.  Letters as in the module's text."""
    target = dense @ spectrum.matrix
    first = nearest(dense, pattern, outside)
    (d, base), v = first, np.zeros_like(dense)
    before, stored = base, max(int(base.sum()), 1)
    rho, grown, inverse = FIRST_RHO, False, spectrum.inverse(FIRST_RHO)
    for step in range(1, iterations + 1):
        z = (target - v + np.float32(rho) * d) @ inverse + v * np.float32(1 / rho)
        d, base = nearest(z, pattern, outside)
        v = np.float32(rho) * (z - d)
        if step % CHECK:
            continue
        change = int((base != before).sum()) / stored
        if not grown and change <= TOO_STIFF:
            rho /= 5
            if rho < LEAST_RHO:
                break
            (d, base), v = first, np.zeros_like(dense)
        elif change == 0 or (step > EARLIEST and change < SETTLED):
            break
        else:
            grown = True
            rho = min(rho * growth(change), MOST_RHO)
        before, inverse = base, spectrum.inverse(rho)
    return d, base


def nearest(z: F32, pattern: NMPattern, outside: Bool) -> tuple[F32, Bool]:
    """z [R, K] with zeros where neither the base nor `outside` keeps it, and the base mask."""
    base = top_n(np.abs(z), pattern, outside)
    return np.where(base | outside, z, np.float32(0)), base


def growth(change: float) -> float:
    """What rho is multiplied by."""
    return next(factor for above, factor in GROWTH if change > above)


def refit(dense: F32, matrix: F32, kept: Bool, start: F32, steps: int) -> F32:
    """The w that is zero where not kept and minimises (dense - w) matrix (dense - w)^T, row by row.

    Conjugate gradients for all rows at once, [R, K]; matrix [K, K] has a diagonal near 1.  Ends
    after `steps`, or when the gradient is TOLERANCE times what it was at `start`.
    """
    w = np.where(kept, start, np.float32(0))
    residual = np.where(kept, (dense - w) @ matrix, np.float32(0))  # half the negative gradient
    direction, size = residual, _dot(residual, residual)
    enough = TOLERANCE**2 * float(size.sum(dtype=np.float64))
    for _ in range(steps):
        if float(size.sum(dtype=np.float64)) <= enough:
            break
        moved = direction @ matrix
        step = _quotient(size, _dot(direction, moved))
        w += step * direction
        residual = np.where(kept, residual - step * moved, np.float32(0))
        size, before = _dot(residual, residual), size
        direction = residual + _quotient(size, before) * direction
    return w


def _dot(a: F32, b: F32) -> F32:
    """Of every row, [R, 1]."""
    product: F32 = np.einsum("rk,rk->r", a, b)[:, None]
    return product


def _quotient(a: F32, b: F32) -> F32:
    """a / b; 0 where b is 0, in a row that is solved."""
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)

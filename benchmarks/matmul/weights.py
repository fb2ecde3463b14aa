"""The weights of a case, written once as .npy files, and the results that are right for them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt

import nmref
from benchmarks.matmul.cells import Case
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import split

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

DEVIATION = 2.0**-15
"""Largest error of a right result, relative to sum |w||x|: far above rounding, far below a term."""

RESULT_ULP = {"F32": 0.0, "BF16": 2.0**-7}
"""Rounding of a result that a peer gives in the dtype of x, relative to the result."""


@dataclass(frozen=True)
class Written:
    """A case on disk.

    Attributes
    ----------
    request : what a worker needs in order to load it.
    packed_bytes : of nmref's parts; dense_bytes : of the dense matrix.
    right, bound : [T, R], the results for x and how far from them a contestant may be.
    """

    request: dict[str, object]
    packed_bytes: int
    dense_bytes: int
    right: F64
    bound: F64

    def deviation(self, y: F32) -> float:
        """The largest error of y [T, R] over its bound; above 1 (or NaN) the result is wrong."""
        tokens = len(y)
        error = np.abs(y.astype(np.float64) - self.right[:tokens])
        return float((error / self.bound[:tokens]).max(initial=0.0))


def write(case: Case, folder: Path, tokens: int) -> Written:
    """Prune random weights, pack them, and write dense.npy, x.npy and the parts into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(case.rows + case.columns)
    dense = rng.standard_normal((case.rows, case.columns), dtype=np.float32)
    outlier_pattern = NMPattern.parse(case.outliers) if case.outliers else None
    mask, salient = split(np.abs(dense), NMPattern.parse(case.base), outlier_pattern)
    x = _cast(rng.standard_normal((tokens, case.columns), dtype=np.float32), case.dtype)
    base = _cast(np.where(mask, dense, np.float32(0)), case.dtype)
    over = None if salient is None else _cast(np.where(salient, dense, np.float32(0)), case.dtype)
    extra = {} if over is None else {"outliers": over, "outlier_pattern": case.outliers}
    weight = nmref.encode(base, case.base, **extra)
    whole = base if over is None else np.where(salient, over, base)
    for name, array in {"dense": whole, "x": x, **weight.parts()}.items():
        np.save(folder / f"{name}.npy", _plain(array))
    return Written(
        {"folder": str(folder), **asdict(case)}, weight.nbytes, whole.nbytes,
        *_right(x.astype(np.float32), whole.astype(np.float32), RESULT_ULP[case.dtype]),
    )  # fmt: skip


def _right(x: F32, dense: F32, ulp: float) -> tuple[F64, F64]:
    right = x.astype(np.float64) @ dense.astype(np.float64).T
    size = (np.abs(x) @ np.abs(dense).T).astype(np.float64)
    return right, DEVIATION * size + ulp * np.abs(right) + np.finfo(np.float32).tiny


def _cast(array: F32, dtype: str) -> npt.NDArray[np.generic]:
    return array if dtype == "F32" else array.astype(ml_dtypes.bfloat16)


def _plain(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """BF16 as its bits: peers read the files without ml_dtypes."""
    return array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array

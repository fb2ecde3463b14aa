"""Real weights: matmul within the bound, for every linear of a model."""

import ml_dtypes
import numpy as np
import pytest

import nmref
from nmref.linear import matmul
from nmref.model.checkpoint import open_checkpoint
from nmref.model.config import linear_names
from nmref.model.fetch import cache_folder
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import split

UNIT = 2.0**-24


def check(folder, names, rows):
    """Some rows of some linears, pruned by magnitude, times random activations with outliers."""
    rng = np.random.default_rng(0)
    model = open_checkpoint(folder)
    weights = model.weights()
    for name in names(model.config):
        dense = np.asarray(weights[name], dtype=np.float32)[:rows]
        for pattern, salient in (("8:16", None), ("2:4", None), ("8:16", "16:256")):
            chosen = NMPattern.parse(salient) if salient else None
            mask, over = split(np.abs(dense), NMPattern.parse(pattern), chosen)
            for dtype in (np.float32, ml_dtypes.bfloat16):
                base, out = (
                    np.where(mask, dense, 0),
                    None if over is None else np.where(over, dense, 0),
                )
                packed = nmref.encode(
                    base.astype(dtype),
                    pattern,
                    mask=mask,
                    outliers=None if out is None else out.astype(dtype),
                )
                wide = packed.to_dense().astype(np.float64)
                columns = wide.shape[1]
                for tokens in (1, 5, 40):
                    x = rng.standard_normal((tokens, columns)) * np.exp(rng.normal(0, 2, columns))
                    x = x.astype(dtype)
                    exact, size = (
                        x.astype(np.float64) @ wide.T,
                        np.abs(x.astype(np.float64)) @ np.abs(wide.T),
                    )
                    # binary64 sums are 2^29 times closer than the bound
                    bound = columns * UNIT / (1 - columns * UNIT) * size
                    assert (np.abs(matmul(x, packed) - exact) <= bound * (1 + 1e-6)).all(), name


def test_stories260k(shared_data):
    check(shared_data / "models" / "stories260k-hf", linear_names, rows=64)


def test_smollm2():
    folder = cache_folder() / "smollm2-135m-bf16"
    if not folder.exists():
        pytest.skip("nmref fetch smollm2-135m")
    check(folder, lambda config: linear_names(config)[:7] + linear_names(config)[-7:], rows=48)

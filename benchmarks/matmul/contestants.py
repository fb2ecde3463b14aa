"""Who multiplies.  Runs in a worker, in an interpreter that may have NumPy and one peer only.

Every contestant allocates its result in the call, as a caller's plain call does.  Memory of weights
and x comes from NumPy for all of them, so that large pages are there for all or for none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.matmul.contestant import Array, Call, Contestant, Dense, Request
from benchmarks.matmul.packed import DeepSparse, Nmref


class Numpy(Dense):
    """OpenBLAS (or what this NumPy was built with): sgemv for one token, else sgemm."""

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__, "openblas": _openblas_core()}

    def calls(self, tokens: int, copies: int) -> list[Call]:
        x = self.x[:tokens]
        if tokens == 1:
            return [lambda w=w: w @ x[0] for w in self.copies(copies)]
        return [lambda w=w: x @ w.T for w in self.copies(copies)]


class Torch(Dense):
    """torch.nn.functional.linear."""

    dtypes = ("F32", "BF16")

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import torch

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.torch = torch

    def versions(self) -> dict[str, str]:
        capability = self.torch.backends.cpu.get_cpu_capability()
        return {"torch": self.torch.__version__, "capability": capability}

    def calls(self, tokens: int, copies: int) -> list[Call]:
        linear, x = self.torch.nn.functional.linear, self._tensor(self.x[:tokens])
        weights = [self._tensor(w) for w in self.copies(copies)]
        return [lambda w=w: linear(x, w) for w in weights]

    def result(self, y: Any) -> Array:
        return super().result(y.float().numpy())

    def _tensor(self, array: Array) -> Any:
        if array.dtype == np.float32:
            return self.torch.from_numpy(array)
        return self.torch.from_numpy(array.view(np.int16)).view(self.torch.bfloat16)


class OpenVino(Dense):
    """OpenVINO's CPU plugin on a MatMul with a constant; BF16 by its precision hint, x in F32."""

    dtypes = ("F32", "BF16")

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import openvino

        self.openvino, self.core = openvino, openvino.Core()

    def versions(self) -> dict[str, str]:
        return {"openvino": self.openvino.__version__.split("-")[0]}

    def calls(self, tokens: int, copies: int) -> list[Call]:
        x = _widened(self.x[:tokens])
        requests = [self._request(tokens) for _ in range(copies)]
        return [lambda r=r: r.infer([x], share_inputs=True)[0] for r in requests]

    def _request(self, tokens: int) -> Any:
        operations = self.openvino.opset13
        x = operations.parameter([tokens, self.request["columns"]], np.float32)
        weight = operations.constant(_widened(self.dense))
        product = operations.matmul(x, weight, False, True)
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if self.request["dtype"] == "BF16" else "f32",
        }
        model = self.openvino.Model([product], [x])
        return self.core.compile_model(model, "CPU", settings).create_infer_request()


class ScipyCsr(Contestant):
    """scipy.sparse.csr_array, which knows one thread only."""

    most_tokens, most_threads = 16, 1

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import scipy
        import scipy.sparse

        self.scipy = scipy

    def versions(self) -> dict[str, str]:
        return {"scipy": self.scipy.__version__}

    def load(self, request: Request) -> None:
        super().load(request)
        self.matrix, self.held = self.scipy.sparse.csr_array(self.read("dense")), []

    def streamed(self) -> int:
        return int(self.matrix.data.nbytes + self.matrix.indices.nbytes)

    def calls(self, tokens: int, copies: int) -> list[Call]:
        while len(self.held) < copies:
            self.held.append(self.matrix.copy())
        x = self.x[0] if tokens == 1 else np.ascontiguousarray(self.x[:tokens].T)
        return [lambda w=w: (w @ x).T for w in self.held[:copies]]


KINDS: dict[str, type[Contestant]] = {
    "nmref": Nmref,
    "numpy": Numpy,
    "torch": Torch,
    "openvino": OpenVino,
    "scipy": ScipyCsr,
    "deepsparse": DeepSparse,
}


def _widened(array: Array) -> Array:
    """F32 of F32 or of BF16 bits."""
    if array.dtype == np.float32:
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)


def _openblas_core() -> str:
    """The kernels that the OpenBLAS of NumPy's wheel chose; empty where it cannot be asked."""
    import ctypes

    for path in Path(np.__file__).parents[1].glob("numpy.libs/libscipy_openblas*"):
        core = getattr(ctypes.CDLL(str(path)), "scipy_openblas_get_corename64_", None)
        if core is not None:
            core.restype = ctypes.c_char_p
            return str(core().decode())
    return ""

"""Contestants that store the weights sparse: nmref and DeepSparse."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.matmul.contestant import Array, Call, Contestant, Request


class DeepSparse(Contestant):
    """DeepSparse's engine on an ONNX MatMul whose weight is a constant [K, R]."""

    patterns = ("8:16",)

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        os.environ["NM_DISABLE_ANALYTICS"] = "1"
        import deepsparse
        import onnx

        self.deepsparse, self.onnx = deepsparse, onnx

    def versions(self) -> dict[str, str]:
        return {"deepsparse": self.deepsparse.__version__, "onnx": self.onnx.__version__}

    def load(self, request: Request) -> None:
        super().load(request)
        self.dense, self.engines = self.read("dense"), []

    def streamed(self) -> int:
        return 4 * int(np.count_nonzero(self.dense))  # at least: it does not tell

    def calls(self, tokens: int, copies: int) -> list[Call]:
        self.engines.clear()
        x = np.ascontiguousarray(self.x[:tokens])
        with tempfile.TemporaryDirectory(prefix="nmref-onnx-") as folder:
            path = str(Path(folder, "model.onnx"))
            self.onnx.save(self._model(tokens), path)
            for _ in range(copies):
                engine = self.deepsparse.Engine(path, batch_size=tokens, num_cores=self.threads)
                self.engines.append(engine)
        return [lambda e=e: e.run([x], val_inp=False)[0] for e in self.engines]

    def _model(self, tokens: int) -> Any:
        helper, kind = self.onnx.helper, self.onnx.TensorProto.FLOAT
        rows, columns = self.dense.shape
        weight = self.onnx.numpy_helper.from_array(np.ascontiguousarray(self.dense.T), "w")
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "product",
            [helper.make_tensor_value_info("x", kind, [tokens, columns])],
            [helper.make_tensor_value_info("y", kind, [tokens, rows])],
            [weight],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8  # the newest that this engine reads
        return model


class Nmref(Contestant):
    """nmref.matmul on the packed weight."""

    dtypes = ("F32", "BF16")

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import ml_dtypes

        import nmref

        self.nmref, self.bf16 = nmref, ml_dtypes.bfloat16

    def versions(self) -> dict[str, str]:
        import numba

        found = {"nmref": self.nmref.__version__, "numba": numba.__version__}
        try:
            from nmref.kernels import isa
        except ImportError:
            return found
        return found | {"isa": str(isa.chosen())}

    def load(self, request: Request) -> None:
        super().load(request)
        self.weight, self.held = self.weight_of(request), []

    def weight_of(self, request: Request) -> Any:
        """The SparseWeight of new arrays, of the case's parts."""
        from nmref.pattern import NMPattern
        from nmref.tensor import NMMatrix, Outliers, SparseWeight

        base, _, outliers = request["pattern"].partition("+")
        columns = request["columns"]
        values, codes = self._values("nm_values"), self.read("nm_codes")
        matrix = NMMatrix(NMPattern.parse(base), columns, values, codes)
        if not outliers:
            return SparseWeight(matrix)
        over, where = self._values("nm_out_values"), self.read("nm_out_index")
        return SparseWeight(
            matrix, Outliers(NMPattern.parse(outliers), columns, over, where, "idx8")
        )

    def _values(self, name: str) -> Array:
        array = self.read(name)
        return array.view(self.bf16) if array.dtype == np.uint16 else array

    def streamed(self) -> int:
        return int(self.weight.nbytes)

    def calls(self, tokens: int, copies: int) -> list[Call]:
        while len(self.held) < copies:
            self.held.append(self.weight_of(self.request))
        x, threads, matmul = self.x[:tokens], self.threads, self.nmref.matmul
        x = x.view(self.bf16) if x.dtype == np.uint16 else x
        return [lambda w=w: matmul(x, w, threads=threads) for w in self.held[:copies]]

"""What changes the digest of a kernel, and what does not."""

import types as python

import numpy as np
import pytest
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nmref import dtypes
from nmref.kernels import identity
from nmref.kernels.compile import kernel

SOURCE = """
def helper(x):
    return x + A

def main(x, y=2):
    if x == 0:
        return main(1)
    return helper(x) * 3 + B[0] + module.VALUE
"""


def made(source=SOURCE, **values):
    """`main` of a module that is made here."""
    module = python.ModuleType("nmref.made")
    module.VALUE = values.pop("VALUE", 1)
    space = {"A": 1, "B": (1, 2), "module": module} | values
    exec(compile(source, "made", "exec"), space)
    return space


def digest(**values):
    return identity.digest(made(**values)["main"])


def test_the_same_again_is_the_same():
    assert digest() == digest()
    assert digest(source="\n\n# moved\n" + SOURCE) == digest()
    assert digest(unused=5) == digest()


CHANGES = {
    "global of a callee": {"A": 2},
    "its type": {"A": 1.0},
    "NumPy's type": {"A": np.int32(1)},
    "NumPy's other type": {"A": np.int64(1)},
    "container": {"B": (1, 3)},
    "array": {"A": np.arange(3)},
    "array's dtype": {"A": np.arange(3, dtype=np.int32)},
    "array's value": {"A": np.array([0, 1, 3])},
    "objects": {"A": np.array([2**70], dtype=object)},
    "set": {"A": frozenset({"a", "b"})},
    "Numba type": {"A": types.float32},
    "LLVM type": {"A": ir.IntType(16)},
    "LLVM vector": {"A": ir.VectorType(ir.FloatType(), 16)},
    "LLVM constant": {"A": ir.Constant(ir.IntType(8), 3)},
    "dtype": {"A": np.dtype("<f4")},
    "class": {"A": dict},
    "attribute of a module of ours": {"VALUE": 2},
    "constant": {"source": SOURCE.replace("* 3", "* 4")},
    "operator": {"source": SOURCE.replace("* 3", "- 3")},
    "default": {"source": SOURCE.replace("y=2", "y=3")},
    "callee": {"source": SOURCE.replace("x + A", "x - A")},
    "nested": {"source": SOURCE.replace("x + A", "(lambda z: z + 7 + A)(x)")},
}


def test_each_change_shows():
    found = {name: digest(**change) for name, change in CHANGES.items()} | {"": digest()}
    assert len(set(found.values())) == len(found)


def test_closures_kernels_and_intrinsics_are_followed():
    def make(step, options):
        @intrinsic
        def operation(typing_context, x):
            return x(x), lambda context, builder, signature, arguments: (arguments[0], step)

        @kernel(**options)
        def inner(x):
            return operation(x)

        def outer(x):
            return inner(x)

        return outer

    seen = {identity.digest(make(step, options)) for step in (1, 2) for options in OPTIONS}
    assert len(seen) == 2 * len(OPTIONS)
    assert identity.digest(make(1, {})) in seen


OPTIONS = ({}, {"forceinline": True}, {"error_model": "numpy"})


def test_a_closure_that_is_not_filled_yet_is_left_out():
    def main():
        return later

    assert identity.digest(main)
    later = 1
    assert identity.digest(main)


def test_modules_of_others_count_by_version_only():
    source = "def main():\n    return module.int64\n"
    assert digest(source=source, module=np) == digest(source=source, module=python)
    assert digest(source=source, module=dtypes)


@pytest.mark.parametrize("depth", [3, 50])
def test_containers_that_hold_themselves_end(depth):
    loop: list[object] = [depth]
    loop.append(loop)
    assert digest(B=loop) == digest(B=loop)

"""House rules of the code, as tests."""

import ast
import re
from pathlib import Path

import pytest

from nmref.errors import Code
from tests.clauses import CLAUSES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nmref"

LAYERS = [
    {"errors", "paths", "tables"},
    {"pattern"},
    {"dtypes"},
    {"colex", "bits"},
    {"kernels"},
    {"tensor"},
    {"numerics"},
    {"linear"},
    {"container"},
    {"model"},
    {"prune"},
    {"evaluate"},
    {"interop"},
    {"conformance"},
    {"testing"},
    {"cli"},
]
"""From the bottom up; a module imports its own layer or lower ones."""

PRUNE_LAYERS = ["settings", "choose", "update", "tune", "masks", "recipe", "run", "report"]
"""The same inside nmref.prune."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def layer_of(module: str) -> int:
    """`nmref.tensor.slots` -> its place in LAYERS."""
    top = module.split(".")[1]
    return next(i for i, layer in enumerate(LAYERS) if top in layer)


def imports_of(path: Path) -> list[str]:
    """Modules of nmref that a file imports, wherever in the file; `from nmref import x` too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "nmref":
            found += [f"nmref.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return [name for name in found if name.startswith("nmref.")]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_only_go_down(path: Path) -> None:
    name = module_name(path)
    if name in {"nmref", "nmref.__main__"}:  # the front doors
        return
    for imported in imports_of(path):
        if imported == "nmref.__version__":
            continue
        assert layer_of(imported) <= layer_of(name), f"{name} imports {imported}"


def test_imports_inside_prune_only_go_down() -> None:
    for path in (PACKAGE / "prune").rglob("*.py"):
        part = path.relative_to(PACKAGE / "prune").parts[0].removesuffix(".py")
        if part == "__init__":  # the front door
            continue
        for imported in imports_of(path):
            if imported.startswith("nmref.prune."):
                lower = imported.split(".")[2]
                wrong = f"{path} imports {imported}"
                assert PRUNE_LAYERS.index(lower) <= PRUNE_LAYERS.index(part), wrong


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_naive_witness_imports_nothing_of_nmref() -> None:
    for path in (ROOT / "conformance" / "naive").glob("*.py"):
        assert not imports_of(path), path


def test_only_kernels_use_numba() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if "kernels" not in path.parts:
            assert "import numba" not in text, path
            assert "from numba" not in text, path


def test_kernels_do_not_use_fastmath() -> None:
    for path in (PACKAGE / "kernels").glob("*.py"):
        assert "fastmath" not in path.read_text(encoding="utf-8"), path


def test_only_the_command_line_prints() -> None:
    for path in MODULES:
        if "cli" in path.parts:
            continue
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
        ]
        assert not calls, path


def clauses_with_must() -> set[str]:
    """Numbers of SPEC's clauses that contain MUST; 1.1 only says what the word means."""
    text = (ROOT / "SPEC.md").read_text(encoding="utf-8")
    pieces = re.split(r"(?m)^### (\d+\.\d+) ", text)
    bodies = zip(pieces[1::2], pieces[2::2], strict=True)
    return {number for number, body in bodies if re.search(r"\bMUST\b", body)} - {"1.1"}


def test_every_must_has_a_test() -> None:
    assert set(CLAUSES) == clauses_with_must()


def test_tests_of_the_clauses_exist() -> None:
    for clause, tests in CLAUSES.items():
        assert tests, clause
        for test in tests:
            file, name = test.split("::")
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert name in names, f"{clause}: {test}"


def test_codes_are_those_of_the_specification() -> None:
    """SPEC part 7 and nmref.errors name the same codes (T_ codes are the tools' own)."""
    text = (ROOT / "SPEC.md").read_text(encoding="utf-8").split("## 7 ")[1].split("## 8 ")[0]
    listed = set(re.findall(r"(?m)^\| ([EXW]_\w+) \|", text))
    assert listed == {code.value for code in Code if not code.value.startswith("T_")}

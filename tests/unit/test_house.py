"""What a machine can check of the house style, a machine checks."""

import ast
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway", "router_models", "federation", "budget", "migrations", "tests", "benchmarks")
MODULES = sorted(
    path
    for path in chain(ROOT.glob("*.py"), *((ROOT / p).rglob("*.py") for p in PACKAGES))
    if "node_modules" not in path.parts
)
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "core", "misc"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_is_short_and_so_are_its_functions(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= 400, "split the file"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [path for path in MODULES if path.stem in VAGUE_NAMES]

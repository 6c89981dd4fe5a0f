"""What a machine can check of the house style, a machine checks."""

import ast
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway", "router_models", "federation", "budget", "migrations", "tests", "benchmarks")
MODULES = sorted(
    path
    for path in chain(ROOT.glob("*.py"), *((ROOT / p).rglob("*.py") for p in PACKAGES))
    if "node_modules" not in path.parts
)
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "core", "misc"}
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 60


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Yield the name and the length of every function; a short file is not read, none is long."""
    if source.count("\n") <= MOST_LINES_OF_A_FUNCTION:
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_modules_are_short_and_so_are_their_functions() -> None:
    assert len(MODULES) > 500
    long = []
    for path in MODULES:
        source, place = path.read_text(encoding="utf-8"), path.relative_to(ROOT)
        if source.count("\n") > MOST_LINES:
            long.append(f"{place}: split the file")
        long += [
            f"{place}: {name} has {length} lines"
            for name, length in functions(source)
            if length > MOST_LINES_OF_A_FUNCTION
        ]

    assert long == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [path for path in MODULES if path.stem in VAGUE_NAMES]

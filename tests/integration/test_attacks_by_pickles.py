"""A file that is a program in Python's own format is refused and not run.

torch's format is a pickle: `torch.load` runs whatever it says unless it is told otherwise.
"""

import ast
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from federation.node.bundles import BundleFile
from federation.reasoner.file_states import FileStates
from gateway.commands.turn_policy import command
from gateway.federation.reasoner.local_training import LocalTraining
from gateway.problems.problem_files import ProblemRow
from router_models.evaluation.log_rows import LoggedRows
from tests.fakes.problems import write_problems

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway", "federation", "budget", "router_models", "migrations", "benchmarks")
RUNS_CODE = {"pickle.load", "pickle.loads", "pickle.Unpickler", "yaml.load", "yaml.unsafe_load"}
FORMS = ("torch", "plain", "old")


class Program:
    """Makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Where a program that was run leaves its trace."""
    return tmp_path / "it was run"


def program_in(file: Path, form: str, trace: Path) -> Path:
    """Write a program where a checkpoint is expected, in one of the forms that torch reads."""
    content = {"identity": "x", "figures": [], "learner": Program(trace)}
    if form == "plain":
        file.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "torch")
    return file


@pytest.mark.parametrize("form", FORMS)
def test_a_program_runs_where_nothing_forbids_it(tmp_path, trace, form) -> None:
    file = program_in(tmp_path / "run.pt", form, trace)
    read: Callable[[Path], Any] = (
        (lambda path: pickle.loads(path.read_bytes()))
        if form == "plain"
        else (lambda path: torch.load(path, weights_only=False))
    )
    read(file)
    assert trace.exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_program_in_place_of_a_nodes_state_is_not_run(tmp_path, trace, form) -> None:
    program_in(tmp_path / "1.state", form, trace)
    assert FileStates(tmp_path).read(1) is None
    assert not trace.exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_program_in_place_of_a_checkpoint_of_tuning_is_not_run(tmp_path, trace, form) -> None:
    file = program_in(tmp_path / "run.pt", form, trace)
    training = LocalTraining(cast("Any", None), (), 0, file, "x")
    with pytest.raises(click.ClickException, match="cannot be read as a checkpoint"):
        training._resume()
    assert not trace.exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_program_in_place_of_a_checkpoint_of_a_policy_is_not_run(tmp_path, trace, form) -> None:
    rows = [
        ProblemRow(f"{split}/0", 0, "Add 1 and 7.", 0, 20, 1.0, split=split)
        for split in ("train", "val")
    ]
    write_problems(rows, tmp_path / "problems.parquet")
    file = program_in(tmp_path / "run.pt", form, trace)
    arguments = ("train", tmp_path / "problems.parquet", "--budget", 999, "--checkpoint", file)
    ended = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert "cannot be read as a checkpoint" in ended.output
    assert not trace.exists()


def test_a_program_in_place_of_a_nodes_bundles_is_not_run(tmp_path, trace) -> None:
    file = tmp_path / "bundles.npz"
    np.savez(file, encoder_id=np.array([Program(trace)], dtype=object))
    empty = np.empty(0, np.intp)
    vectors = np.empty((0, 2), np.float32)
    rows = LoggedRows(
        vectors,
        np.empty(0, np.int8),
        (),
        empty,
        empty,
        vectors[:, 0],
        vectors[:, 0],
        empty,
        vectors,
    )
    with pytest.raises(ValueError, match="allow_pickle"):
        BundleFile(file, "x").update(rows, 1)
    assert not trace.exists()


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield every call of the project by the name that stands there."""
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call):
                    yield ast.unparse(node.func), node


def test_nothing_reads_a_format_that_can_run_code() -> None:
    written = [ast.unparse(call) for name, call in calls() if name in {"torch.load", "np.load"}]
    of_torch = [call for call in written if call.startswith("torch.load")]
    assert of_torch
    assert [call for call in of_torch if "weights_only=True" not in call] == []
    assert [call for call in written if "allow_pickle=True" in call] == []
    assert {name for name, _ in calls()} & RUNS_CODE == set()

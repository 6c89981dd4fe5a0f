import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from gateway.commands import calibrate
from gateway.commands.calibrate import (
    PACKAGED_PROMPTS,
    command,
    read_prompts,
    read_rows,
    write_rows,
)
from gateway.problems.calibration import CalibrationRow
from gateway.problems.datasets import read_dataset

PROMPTS = [
    {
        "query_id": f"add/{i}",
        "text": f"What is {i} + 1?",
        "task": "add",
        "verifier": {"kind": "numeric", "reference": i + 1},
    }
    for i in range(4)
]


def listed(model: str) -> dict[str, Any]:
    price = {"routed": False, "input_usd_per_mtok": 0.5, "output_usd_per_mtok": 5.0}
    return {"id": model, "waypost": price}


class Gateway(BaseHTTPRequestHandler):
    """Adds right as model `good`, is down as model `down`, else says "no, 99"."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        routed = {"id": "auto", "waypost": {"routed": True}}
        named = [listed(model) for model in ("good", "bad", "down")]
        unpriced = {"id": "unpriced", "waypost": {"routed": False}}
        self._answer({"data": [routed, *named, unpriced]})

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("feedback"):
            self.server.graded.append((sent["id"], sent["score"]))  # type: ignore[attr-defined]
            self._answer({}, 202)
            return
        self.server.asked.append(sent["model"])  # type: ignore[attr-defined]
        number = int(sent["messages"][0]["content"].split()[2])
        text = str(number + 1) if sent["model"] == "good" else 'no,\n"99"'
        usage = {"prompt_tokens": 5, "completion_tokens": 2}
        choices = [{"message": {"content": text}}]
        body = {"id": "same", "choices": choices, "usage": usage}
        status = 400 if sent["model"] == "down" else 200
        self._answer(body, status, request_id=f"{sent['model']}-{number}")

    def _answer(self, told: dict[str, Any], status: int = 200, request_id: str = "") -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("x-waypost-cost-usd", "0.004")
        self.send_header("x-request-id", request_id)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def running() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    server.asked = []
    server.graded = []
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def gateway() -> Iterator[Any]:
    with running() as server:
        yield server


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(prompt) + "\n" for prompt in PROMPTS))
    return file


def run(gateway: Any, *arguments: str | Path) -> Result:
    url = f"http://127.0.0.1:{gateway.server_port}/v1"
    whole = ["--url", url, "--key", "sk", *map(str, arguments)]
    return CliRunner().invoke(command, whole, env={"WAYPOST_CONFIG": ""})


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_writes_rows_that_training_reads(
    gateway: Any, prompts: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / "new" / f"evaluations.{suffix}"
    models = ("--model", "good", "--model", "bad")
    result = run(gateway, *models, "--prompts", prompts, "--out", out)
    assert result.exit_code == 0, result.output
    dataset = read_dataset(out)
    assert dataset.models == ("bad", "good")
    assert dataset.quality.tolist() == [[0.0, 1.0]] * 4
    assert dataset.cost_usd[0].tolist() == pytest.approx([0.004, 0.004])
    assert dataset.tasks == ("add",) * 4


def test_reports_quality_cost_and_what_routing_can_reach(
    gateway: Any, prompts: Path, tmp_path: Path
) -> None:
    models = ("--model", "good", "--model", "bad")
    result = run(gateway, *models, "--prompts", prompts, "--out", tmp_path / "e.csv")
    lines = [line.split() for line in result.output.splitlines()]
    assert ["good", "4", "1.000", "0.510", "to", "1.000", "4.0000"] in [x[:7] for x in lines]
    assert "best model for each query: 1.000" in result.output
    assert "next: waypost learn run" in result.output


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_goes_on_where_it_was_and_adds_models(
    gateway: Any, prompts: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"evaluations.{suffix}"
    run(gateway, "--model", "good", "--prompts", prompts, "--out", out, "--limit", "3")
    run(gateway, "--model", "good", "--model", "bad", "--prompts", prompts, "--out", out)
    assert sorted(gateway.asked) == ["bad"] * 4 + ["good"] * 4
    assert len(read_rows(out)) == 8


def test_no_call_is_made_that_might_exceed_the_cap(
    gateway: Any, prompts: Path, tmp_path: Path
) -> None:
    limits = ("--max-usd", "0.015")  # an answer may cost 0.0053 USD, and costs 0.004
    out = tmp_path / "e.csv"
    result = run(gateway, "--model", "good", "--prompts", prompts, "--out", out, *limits)
    assert "stopped at the cost limit: a further answer of good might exceed it" in result.output
    assert "spent 0.0120 USD" in result.output
    assert len(gateway.asked) == 3
    again = run(gateway, "--model", "good", "--prompts", prompts, "--out", out, *limits)
    assert "spent 0.0120 USD" in again.output
    assert len(gateway.asked) == 3


def test_the_old_name_of_the_cap_works_and_says_so(
    gateway: Any, prompts: Path, tmp_path: Path
) -> None:
    limits = ("--max-cost-usd", "0.001")
    result = run(gateway, "--prompts", prompts, "--out", tmp_path / "e.csv", *limits)
    assert "--max-cost-usd is called --max-usd now" in result.output
    assert gateway.asked == []


def test_all_models_of_the_key_are_asked_and_those_without_a_price_are_named(
    gateway: Any, prompts: Path, tmp_path: Path
) -> None:
    result = run(gateway, "--prompts", prompts, "--out", tmp_path / "e.csv", "--max-usd", "1")
    assert set(gateway.asked) == {"good", "bad", "down"}
    assert "unpriced is asked nothing further: its price is not known" in result.output
    assert "4 prompts got no answer" in result.output


def test_a_model_that_is_not_served_is_named_and_the_others_go_on(
    gateway: Any, prompts: Path, tmp_path: Path
) -> None:
    models = ("--model", "good", "--model", "gone")
    result = run(gateway, *models, "--prompts", prompts, "--out", tmp_path / "e.csv")
    assert "gone: no such model is served to this key" in result.output
    assert gateway.asked == ["good"] * 4


def test_grades_reach_the_gateway_s_log(gateway: Any, prompts: Path, tmp_path: Path) -> None:
    models = ("--model", "good", "--model", "bad")
    run(gateway, *models, "--prompts", prompts, "--out", tmp_path / "e.csv")
    assert sorted(gateway.graded) == [
        *((f"bad-{n}", 0.0) for n in range(4)),
        *((f"good-{n}", 1.0) for n in range(4)),
    ]


def test_says_what_is_known_of_each_model_now(gateway: Any, prompts: Path, tmp_path: Path) -> None:
    models = ("--model", "good", "--model", "bad")
    result = run(gateway, *models, "--prompts", prompts, "--out", tmp_path / "e.csv")
    lines = [line.split() for line in result.output.splitlines()]
    good, bad = (next(x for x in lines if x[:1] == [m] and "+-" in x) for m in ("good", "bad"))
    assert float(good[2]) > float(bad[2]) + 0.1
    assert 0.0 < float(good[4]) < 0.3


def test_says_how_many_prompts_got_no_answer(gateway: Any, prompts: Path, tmp_path: Path) -> None:
    result = run(gateway, "--model", "down", "--prompts", prompts, "--out", tmp_path / "e.csv")
    assert result.exit_code == 0
    assert "4 prompts got no answer; run the same command to ask again" in result.output


def test_saves_now_and_then(
    gateway: Any, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(calibrate, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(calibrate, "write_rows", lambda rows, out: saved.append(len(rows)))
    run(gateway, "--model", "good", "--prompts", prompts, "--out", tmp_path / "e.csv")
    assert saved == [1, 2, 3, 4, 4]


def test_refuses_a_table_that_is_not_its_own(gateway: Any, prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.csv"
    out.write_text("a,b\n1,2\n")
    result = run(gateway, "--model", "good", "--prompts", prompts, "--out", out)
    assert result.exit_code == 1
    assert "no file of an earlier calibration" in result.output


def test_refuses_a_query_that_has_changed(gateway: Any, prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.csv"
    write_rows([CalibrationRow("add/0", "other", "", "m", 1, 1, 1, 0.1, 0.1, "train", "")], out)
    result = run(gateway, "--model", "good", "--prompts", prompts, "--out", out)
    assert "query 'add/0' has another text" in result.output


def test_refuses_another_kind_of_file(gateway: Any, prompts: Path, tmp_path: Path) -> None:
    result = run(gateway, "--model", "m", "--prompts", prompts, "--out", tmp_path / "e.xlsx")
    assert "must end in .parquet or .csv" in result.output


def test_reads_prompts_from_parquet(tmp_path: Path) -> None:
    file = tmp_path / "prompts.parquet"
    rows = [prompt | {"verifier": json.dumps(prompt["verifier"])} for prompt in PROMPTS]
    pa.parquet.write_table(pa.Table.from_pylist(rows), file)
    assert [table["query_id"] for _, table in read_prompts(file)] == [f"add/{i}" for i in range(4)]


def test_refuses_parquet_that_is_none(gateway: Any, tmp_path: Path) -> None:
    file = tmp_path / "prompts.parquet"
    file.write_text("text")
    result = run(gateway, "--model", "m", "--prompts", file, "--out", tmp_path / "e.csv")
    assert "cannot be read as parquet" in result.output


def test_the_packaged_prompts_are_the_default(gateway: Any, tmp_path: Path) -> None:
    result = run(gateway, "--model", "down", "--limit", "1", "--out", tmp_path / "e.csv")
    assert PACKAGED_PROMPTS.exists()
    assert "1 answers to get" in result.output


def test_reports_nothing_where_nothing_was_answered(
    gateway: Any, prompts: Path, tmp_path: Path
) -> None:
    result = run(gateway, "--model", "down", "--prompts", prompts, "--out", tmp_path / "e.csv")
    assert "quality" not in result.output

import io
import json
import multiprocessing
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from router_models.verifiers import child, patterns
from router_models.verifiers.patterns import CostlyQuestion, Evaluator
from router_models.verifiers.verifiers import NotVerifiable, parse_verifier, verify
from tests.fakes.child_functions import verdict_of_a_process

BINARY_TREE: dict[str, Any] = {"a0": {"type": "object"}} | {
    f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n - 1}"}] * 2} for n in range(1, 40)
}
ENDLESS_SCHEMA = {"$defs": BINARY_TREE, "$ref": "#/$defs/a39"}
"""2 kB: every level doubles the work."""
COSTLY_PATTERN = r"([a-z]?){0,500}\d"
COSTLY_QUESTION = {"pattern": COSTLY_PATTERN, "text": "a" * 100_000}
QUESTION = {"pattern": "b$", "text": "ab"}


@pytest.fixture
def evaluator():
    made = Evaluator()
    yield made
    made.close()


def test_an_endless_schema_gives_no_verdict_and_holds_up_no_other() -> None:
    endless = parse_verifier({"kind": "json_schema", "schema": ENDLESS_SCHEMA})
    with pytest.raises(NotVerifiable, match=r"more than 0\.5 s of CPU time"):
        verify(endless, '{"a": 1}')
    assert verify(parse_verifier({"kind": "regex", "pattern": "b$"}), "ab") == 1.0


def test_a_costly_pattern_gives_no_verdict() -> None:
    costly = parse_verifier({"kind": "regex", "pattern": COSTLY_PATTERN})
    with pytest.raises(NotVerifiable, match=r"more than 0\.5 s of CPU time"):
        verify(costly, "a" * 100_000)


def test_many_questions_share_no_limit(evaluator) -> None:
    text = "a" * 20_000
    question = {"pattern": r"([a-z]?){0,100}\d", "text": text}
    assert [evaluator.ask(question) for _ in range(20)] == [False] * 20


def test_a_child_that_has_died_is_replaced(evaluator) -> None:
    evaluator.ask(QUESTION)
    evaluator._child.kill()
    evaluator._child.wait()
    assert evaluator.ask(QUESTION)


def test_a_child_that_dies_meanwhile_gives_no_verdict(evaluator, monkeypatch, tmp_path) -> None:
    deadly = tmp_path / "deadly.py"
    deadly.write_text("import sys; sys.stdin.readline(); sys.exit(3)")
    monkeypatch.setattr("router_models.verifiers.patterns.CHILD", deadly)
    with pytest.raises(CostlyQuestion, match="ended with status 3"):
        evaluator.ask(QUESTION)


def test_a_child_that_reads_nothing_gives_no_verdict(evaluator, monkeypatch, tmp_path) -> None:
    deaf = tmp_path / "deaf.py"
    deaf.write_text("")
    monkeypatch.setattr("router_models.verifiers.patterns.CHILD", deaf)
    with pytest.raises(CostlyQuestion, match="ended with status 0"):
        evaluator.ask({"pattern": "b", "text": "a" * 1_000_000})


@pytest.mark.parametrize(("method", "is_daemon"), [("fork", False), ("spawn", True)])
def test_processes_started_from_this_one_have_a_child_of_their_own(method, is_daemon) -> None:
    assert verify(parse_verifier({"kind": "regex", "pattern": "b$"}), "ab") == 1.0
    own = patterns._evaluator._child
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    process = context.Process(target=verdict_of_a_process, args=(answers,), daemon=is_daemon)
    process.start()
    assert answers.get(timeout=60) == 1.0
    process.join()
    assert verify(parse_verifier({"kind": "regex", "pattern": "b$"}), "ab") == 1.0
    assert patterns._evaluator._child is own


def test_a_process_forked_while_a_question_is_asked_has_a_child_of_its_own(evaluator) -> None:
    evaluator.ask(QUESTION)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(evaluator.ask, COSTLY_QUESTION)
        while not evaluator._lock.locked():
            time.sleep(0.001)
        time.sleep(0.05)  # it waits for the answer
        forked = multiprocessing.get_context("fork").Process(target=evaluator.ask, args=(QUESTION,))
        forked.start()
        forked.join(timeout=30)
        status = forked.exitcode
        forked.kill()
        assert isinstance(asked.exception(), CostlyQuestion)
    assert status == 0


def test_an_interrupted_question_is_no_answer_to_the_next_one(evaluator) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    evaluator.ask(QUESTION)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            evaluator.ask(COSTLY_QUESTION)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert evaluator.ask(QUESTION)


def test_works_within_limits_until_its_input_ends(monkeypatch) -> None:
    limits: dict[Any, Any] = {}
    signals: dict[Any, Any] = {}
    monkeypatch.setattr("resource.setrlimit", limits.__setitem__)
    monkeypatch.setattr("signal.signal", signals.__setitem__)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO()))
    child.main()
    assert limits[resource.RLIMIT_AS] == (2**30, 2**30)
    assert signals == {signal.SIGPROF: signal.SIG_DFL, signal.SIGINT: signal.SIG_IGN}


def answers_to(*questions: Any) -> list[Any]:
    answers = io.BytesIO()
    child.serve(io.BytesIO(b"\n".join(json.dumps(q).encode() for q in questions)), answers)
    return [json.loads(line) for line in answers.getvalue().splitlines()]


def test_answers_each_line() -> None:
    assert answers_to(
        QUESTION,
        {**QUESTION, "is_full": True},
        {"pattern": "("},
        {"schema": {"type": "string"}},
        {"schema": {"type": "string"}, "value": 3},
        {"schema": {"type": "odd"}},
    ) == [
        {"verdict": True},
        {"verdict": False},
        {"problem": "missing ): ("},
        {"verdict": True},
        {"verdict": False},
        {"problem": "\"odd\" is not valid under any of the schemas listed in the 'anyOf' keyword"},
    ]

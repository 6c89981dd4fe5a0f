from pathlib import Path

import pytest

from gateway.access.keys import KeyStore
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.grades import GradeRecord
from gateway.evaluation_log.reasoning_prompts import private_prompts
from gateway.settings.config import EvaluationLogSettings
from tests.fakes.turns import START_UNIX_S, make_turn

VERIFIER = {"kind": "numeric", "reference": "42"}


def messages(text: str):
    return ({"role": "user", "content": text},)


def verified(answer_id: str, team_id: str = "blue", at: float = 0.0, **changes) -> GradeRecord:
    given = {
        "grade_id": f"{answer_id} {at}",
        "grader": "checker",
        "source": "verifier",
        "score": 1.0,
        "comment": None,
        "verifier": VERIFIER,
    }
    return GradeRecord(
        answer_id=answer_id,
        team_id=team_id,
        created_at_unix_s=START_UNIX_S + at,
        **{**given, **changes},
    )


@pytest.fixture
def store(engine) -> KeyStore:
    store = KeyStore(engine)
    store.create_team("blue", trains_reasoner=True)
    store.create_team("red", trains_reasoner=True)
    store.create_team("grey")
    return store


@pytest.fixture
def write(engine, store, tmp_path: Path):
    async def write(*records) -> None:
        settings = EvaluationLogSettings(retention_days=None)
        log = EvaluationLog(engine, settings, tmp_path / "spool")
        for record in records:
            (log.record_grade if isinstance(record, GradeRecord) else log.record)(record)
        log.start()
        await log.aclose()
        assert log.counters.written == len(records)

    return write


@pytest.mark.parametrize("answer_id", ["req_000001", "dec_000001", "chatcmpl-000001"])
async def test_a_verified_answer_gives_a_prompt_with_its_verifier(engine, write, answer_id):
    turn = make_turn(1, team_id="blue", messages=messages("6 x 7?"), answer="It is 42.")
    await write(turn, verified(answer_id))

    [(where, table)] = private_prompts(engine)

    assert where == "turn req_000001"
    assert table["messages"] == [{"role": "user", "content": "6 x 7?"}]
    assert table["verifier"] == VERIFIER
    assert table["task"] == "gsm8k"
    assert "answer" not in table


async def test_a_wrong_answer_gives_its_prompt_as_well(engine, write):
    turn = make_turn(1, team_id="blue", messages=messages("6 x 7?"), answer="41")
    await write(turn, verified("req_000001", score=0.0))

    assert len(private_prompts(engine)) == 1


@pytest.mark.parametrize(
    "grade",
    [
        verified("req_000001", source="feedback", verifier=None),
        verified("req_000001", source="judge", verifier=None),
        verified("req_000001", verifier=None),
        verified("req_000001", team_id="red"),
        verified("req_000009"),
    ],
    ids=["feedback", "judge", "no verifier kept", "another team's", "of no answer"],
)
async def test_other_grades_give_none(engine, write, grade):
    await write(make_turn(1, team_id="blue", messages=messages("6 x 7?")), grade)

    assert private_prompts(engine) == []


async def test_a_team_that_did_not_opt_in_is_not_read(engine, write):
    turn = make_turn(1, team_id="grey", messages=messages("6 x 7?"))
    await write(turn, verified("req_000001", team_id="grey"))

    assert private_prompts(engine) == []
    assert private_prompts(engine, team_ids=["grey"]) == []


async def test_taking_the_choice_back_erases_what_was_kept(engine, store, write):
    turn = make_turn(1, team_id="blue", messages=messages("6 x 7?"), answer="42")
    other = make_turn(2, team_id="red", messages=messages("6 x 8?"), answer="48")
    await write(turn, verified("req_000001"), other, verified("req_000002", team_id="red"))

    store.update_team("blue", trains_reasoner=False)
    store.update_team("blue", trains_reasoner=True)

    assert [where for where, _ in private_prompts(engine)] == ["turn req_000002"]


async def test_only_the_teams_named_are_read(engine, write):
    blue = make_turn(1, team_id="blue", messages=messages("6 x 7?"))
    red = make_turn(2, team_id="red", messages=messages("6 x 8?"))
    await write(blue, verified("req_000001"), red, verified("req_000002", team_id="red"))

    assert [where for where, _ in private_prompts(engine, ["red"])] == ["turn req_000002"]


async def test_a_prompt_asked_twice_counts_once_with_its_latest_verifier(engine, write):
    first = make_turn(1, team_id="blue", messages=messages("6 x 7?"))
    again = make_turn(2, team_id="blue", messages=messages("6 x 7?"))
    right = {"kind": "exact", "reference": "forty-two"}
    await write(
        first, again, verified("req_000001", at=9.0, verifier=right), verified("req_000002", at=5.0)
    )

    [(_, table)] = private_prompts(engine)
    assert table["verifier"] == right


async def test_reads_the_latest_where_there_are_too_many(engine, write):
    turns = [make_turn(n, team_id="blue", messages=messages(f"6 x {n}?")) for n in (1, 2, 3)]
    await write(*turns, *(verified(f"req_00000{n}", at=float(n)) for n in (1, 2, 3)))

    assert [where for where, _ in private_prompts(engine, most=2)] == [
        "turn req_000003",
        "turn req_000002",
    ]

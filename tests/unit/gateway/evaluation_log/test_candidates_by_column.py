from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text, update

from gateway.candidate_records import NO_CANDIDATES, CandidateRecord, Candidates
from gateway.evaluation_log.row_layout import to_row
from gateway.storage.rows import insert_rows
from migrations.tables import TURNS, objects_of
from tests.fakes.turns import make_turn

FIGURES = st.none() | st.floats(allow_nan=False, allow_infinity=False)
RECORDS = st.lists(
    st.builds(
        CandidateRecord,
        model=st.text(st.characters(codec="ascii", categories=["L"]), min_size=1),
        quality=FIGURES,
        cost_usd=FIGURES,
        utility=FIGURES,
        propensity=st.floats(0, 1),
        is_eligible=st.booleans(),
        verdict=st.sampled_from(["ok", "no_tools"]),
    ),
    max_size=5,
)


@given(RECORDS)
def test_records_taken_apart_are_the_same_records(records):
    assert list(Candidates.of(records)) == records


def test_what_a_turn_considered_can_be_asked_for_by_name_and_place():
    small = CandidateRecord("small", 0.5, 0.1, 0.4, 1.0, is_eligible=True, verdict="ok")
    large = CandidateRecord("large", None, 1.0, None, 0.0, is_eligible=False, verdict="no_tools")
    both = Candidates.of([small, large])

    assert both.find("large") == both[1] == both[-1] == large
    assert both[:1] == [small]
    assert both.find("medium") is None
    assert list(both.column("cached_tokens")) == [None, None]
    assert (len(NO_CANDIDATES), NO_CANDIDATES.find("small")) == (0, None)


def test_one_value_stands_for_all():
    stored = {"model": ["a", "b"], "quality": [0.5, 0.6], "verdict": "ok"}
    assert objects_of(stored) == [
        {"model": "a", "quality": 0.5, "verdict": "ok"},
        {"model": "b", "quality": 0.6, "verdict": "ok"},
    ]


def test_rows_of_an_earlier_version_are_read_too(engine: Engine):
    earlier = [{"model": "a", "quality": 0.5, "propensity": 1.0}]
    with engine.begin() as connection:
        insert_rows(connection, [to_row(make_turn(1)), to_row(make_turn(2))])
        older = update(TURNS).where(TURNS.c.request_id == "req_000001")
        connection.execute(older.values(candidates=earlier))
        rows = connection.execute(select(TURNS.c.candidates).order_by(TURNS.c.request_id)).all()
        texts = connection.execute(text("SELECT candidates FROM turns")).all()

    assert rows[0].candidates == earlier
    assert [each["model"] for each in rows[1].candidates] == ["small", "large"]
    assert '"verdict":"ok"' in str(texts[1][0]).replace("'", '"').replace(": ", ":")

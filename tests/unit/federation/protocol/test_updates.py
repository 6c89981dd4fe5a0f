import io

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from federation.errors import ReplyRejected
from federation.protocol.protocol import ARRAYS, refusal, to_record
from federation.protocol.updates import (
    Field,
    Form,
    Reply,
    cap_weights,
    read_reply,
    screen_norms,
    sum_replies,
)

FORM = Form({"sums": Field((2, range(4)), low=0.0, high=10.0), "count": Field((1,), "int64")})
GOOD = {"sums": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), "count": np.array([3])}


@pytest.fixture
def instruction(grid) -> Message:
    return Message(RecordDict(), 1, "query.rows")


def replying(instruction, record) -> Message:
    return Message(RecordDict({ARRAYS: record}), reply_to=instruction)


def with_data(data):
    record = to_record(GOOD)
    record["sums"].data = data
    return record


def saved(array, version=None):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


def test_reads_a_reply_in_good_order(instruction):
    payload = read_reply(replying(instruction, to_record(GOOD)), FORM)
    np.testing.assert_array_equal(payload["sums"], GOOD["sums"])
    assert payload["count"].tolist() == [3]


def test_reads_arrays_that_are_laid_out_by_column(instruction):
    record = with_data(saved(np.asfortranarray(GOOD["sums"])))
    payload = read_reply(replying(instruction, record), FORM)
    np.testing.assert_array_equal(payload["sums"], GOOD["sums"])


def test_reads_empty_arrays(instruction):
    record = with_data(saved(np.zeros((2, 0))))
    assert read_reply(replying(instruction, record), FORM)["sums"].shape == (2, 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no array in NumPy's format"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': ", "no array in NumPy's format"),
        (saved(np.ones((2, 3)))[:-1], "no array in NumPy's format"),
        (saved(np.ones((2, 3))) + bytes(8), "no array in NumPy's format"),
        (saved(np.ones((2, 3)), (2, 0)), "version (2, 0)"),
        (saved(np.ones((2, 4))), "shape (2, 4)"),
        (saved(np.ones((2, 3, 1))), "shape (2, 3, 1)"),
        (saved(np.ones((2, 3), np.float32)), "type float32"),
        (saved(np.full((2, 3), np.inf)), "not finite"),
        (saved(np.full((2, 3), -0.1)), "outside 0 to 10"),
        (saved(np.full((2, 3), 10.1)), "outside 0 to 10"),
    ],
)
def test_rejects_bytes_that_are_not_what_was_asked_for(instruction, data, reason):
    with pytest.raises(ReplyRejected) as error:
        read_reply(replying(instruction, with_data(data)), FORM)
    assert reason in str(error.value)


def test_does_not_make_room_for_an_array_that_a_header_only_claims(instruction):
    header = saved(np.ones((2, 3))).replace(b"(2, 3), }", b"(2, 9999999999), }")
    with pytest.raises(ReplyRejected, match="expected"):
        read_reply(replying(instruction, with_data(header)), FORM)


def test_rejects_pickled_objects(instruction):
    data = saved(np.array([[1], [2]])).replace(b"'<i8'", b"'|O' ")
    with pytest.raises(ReplyRejected):
        read_reply(replying(instruction, with_data(data)), FORM)


def test_rejects_a_record_of_another_kind(instruction):
    with pytest.raises(ReplyRejected, match="other records"):
        read_reply(replying(instruction, ConfigRecord({"sums": 1})), FORM)


def test_passes_a_sites_own_reason_on(instruction):
    message = Message(refusal("too few\nrows"), reply_to=instruction)
    with pytest.raises(ReplyRejected, match="the site refused: too few rows"):
        read_reply(message, FORM)


def test_a_sites_own_answer_is_held_to_the_same_form():
    FORM.check(GOOD)
    with pytest.raises(ReplyRejected, match="has shape"):
        FORM.check({**GOOD, "count": np.array([3.0])})


def test_rejects_arrays_that_disagree(instruction):
    form = Form(FORM.fields, lambda payload: "they disagree" if payload["count"][0] > 2 else None)
    with pytest.raises(ReplyRejected, match="they disagree"):
        read_reply(replying(instruction, to_record(GOOD)), form)


def test_rejects_arrays_that_are_not_serialised_by_numpy(instruction):
    array = Array("float64", (2, 3), "pickle", saved(np.ones((2, 3)))[8:])
    record = ArrayRecord({**to_record(GOOD), "sums": array})
    with pytest.raises(ReplyRejected):
        read_reply(replying(instruction, record), FORM)


def test_rejects_updates_much_longer_than_the_median_one():
    kept, rejected = screen_norms({"a": 1.0, "b": 2.0, "c": 3.0, "d": 21.0}, 10.0)
    assert kept == {"a", "b", "c"}
    assert rejected == {"d": "the update is 10.5 times as long as the median one"}


def test_the_shorter_of_two_updates_judges():
    assert screen_norms({"a": 1.0, "b": 100.0}, 10.0)[0] == {"a"}


def test_updates_of_no_length_do_not_judge():
    assert screen_norms({"a": 0.0, "b": 0.0, "c": 5.0}, 10.0) == (frozenset("abc"), {})


def test_nothing_is_rejected_where_nothing_has_a_length():
    assert screen_norms({"a": 0.0, "b": 0.0}, 10.0) == (frozenset("ab"), {})


weights = arrays(np.float64, st.integers(3, 12), elements=st.floats(0, 1e6))


@given(weights, st.floats(0.05, 1.0))
def test_no_site_of_three_or_more_counts_for_more_than_its_share(weights, share):
    fair = cap_weights(weights, share)
    weighing = np.count_nonzero(weights)
    allowed = max(share, 1 / weighing) if weighing >= 3 else 1.0
    assert (fair <= allowed * fair.sum() * (1 + 1e-9)).all()


@given(weights, st.floats(0.05, 1.0))
def test_a_cap_raises_nobody_and_silences_nobody(weights, share):
    fair = cap_weights(weights, share)
    assert (fair <= weights).all()
    np.testing.assert_array_equal(fair > 0, weights > 0)


@given(weights, st.floats(0.05, 1.0))
def test_a_cap_does_not_change_the_order(weights, share):
    fair = cap_weights(weights, share)
    order = np.argsort(weights)
    assert (np.diff(fair[order]) >= 0).all()


@given(weights)
def test_a_share_of_everything_caps_nobody(weights):
    np.testing.assert_array_equal(cap_weights(weights, 1.0), weights)


def test_caps_the_largest_at_the_share_and_leaves_the_others():
    np.testing.assert_allclose(cap_weights(np.array([1000.0, 30.0, 20.0]), 0.5), [50.0, 30.0, 20.0])


def test_two_sites_are_not_capped():
    np.testing.assert_array_equal(
        cap_weights(np.array([1000.0, 0.0, 1.0]), 0.5), [1000.0, 0.0, 1.0]
    )


def test_adds_up_with_the_largest_scaled_down():
    replies = [
        Reply(name, {"sum": np.array([v])}) for name, v in (("a", 90.0), ("b", 5.0), ("c", 5.0))
    ]
    total = sum_replies(replies, np.array([90.0, 5.0, 5.0]), 0.5)
    np.testing.assert_allclose(total["sum"], 20.0)


def test_adds_up_exactly_where_nobody_is_too_large():
    replies = [Reply(name, {"sum": np.array([0.1])}) for name in "abc"]
    assert sum_replies(replies, np.array([3.0, 3.0, 3.0]), 0.5)["sum"][0] == 0.1 + 0.1 + 0.1


def test_a_site_without_rows_adds_nothing():
    replies = [Reply("a", {"sum": np.array([2.0])}), Reply("b", {"sum": np.array([0.0])})]
    assert sum_replies(replies, np.array([2.0, 0.0]), 0.5)["sum"][0] == 2.0

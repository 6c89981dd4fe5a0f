from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare

from federation.privacy.secure_sum import (
    SecureSumRefused,
    generate_private_key,
    mask,
    public_key,
    unmask,
)

LABEL = "session 1, sums, attempt 1"
KEYS = [generate_private_key() for _ in range(4)]
MEMBERS = [public_key(key) for key in KEYS]
numbers = arrays(np.float64, (4, 7), elements=st.floats(-1e6, 1e6))


def masked(values, keys=KEYS, label=LABEL):
    members = [public_key(key) for key in keys]
    return [mask({"x": v}, k, members, label) for v, k in zip(values, keys, strict=True)]


@given(values=numbers)
@settings(max_examples=30, deadline=None)
def test_masks_cancel_in_the_sum_of_all_members(values) -> None:
    total = unmask(masked(values), n_members=4)
    np.testing.assert_allclose(total["x"], values.sum(axis=0), atol=1e-9)


def test_masks_cancel_to_the_last_bit() -> None:
    whole = np.random.default_rng(0).integers(-1000, 1000, (4, 50)).astype(np.float64)
    np.testing.assert_array_equal(unmask(masked(whole), 4)["x"], whole.sum(axis=0))


def test_every_array_keeps_its_name_and_shape() -> None:
    payload: dict[str, Any] = {"b": np.ones((2, 3)), "a": np.float64(5.0), "c": np.zeros(0)}
    total = unmask([mask(payload, key, MEMBERS, LABEL) for key in KEYS], 4)
    assert {name: array.shape for name, array in total.items()} == {"a": (), "b": (2, 3), "c": (0,)}
    assert total["a"] == 20.0


@pytest.mark.parametrize("value", [0.0, 1.0, 123456.789])
def test_one_masked_message_looks_uniform_whatever_it_hides(value: float) -> None:
    message = masked(np.full((4, 20_000), value))[0]["x"]
    counts = Counter(message.tobytes())
    assert chisquare([counts[byte] for byte in range(256)]).pvalue > 1e-6


def test_all_messages_but_one_still_look_uniform_together() -> None:
    message = masked(np.zeros((4, 20_000)))
    known = message[0]["x"] + message[1]["x"] + message[2]["x"]
    counts = Counter(known.tobytes())
    assert chisquare([counts[byte] for byte in range(256)]).pvalue > 1e-6


def test_fresh_keys_give_fresh_masks() -> None:
    first, second = (
        masked(np.ones((3, 8)), [generate_private_key() for _ in range(3)])[0] for _ in range(2)
    )
    assert not (first["x"] == second["x"]).any()


def test_another_label_gives_other_masks() -> None:
    first, second = masked(np.ones((4, 8)))[0], masked(np.ones((4, 8)), label="attempt 2")[0]
    assert not (first["x"] == second["x"]).any()


def test_survivors_of_a_drop_out_add_up_with_fresh_keys() -> None:
    values = np.arange(12.0).reshape(4, 3)
    with pytest.raises(SecureSumRefused, match="3 of 4"):
        unmask(masked(values)[:3], n_members=4)
    again = masked(values[:3], [generate_private_key() for _ in range(3)], label="attempt 2")
    np.testing.assert_allclose(unmask(again, 3)["x"], values[:3].sum(axis=0))


def test_refuses_a_group_of_two() -> None:
    with pytest.raises(SecureSumRefused, match="at least 3"):
        masked(np.ones((2, 3)), KEYS[:2])


def test_refuses_a_group_that_counts_one_member_twice() -> None:
    with pytest.raises(SecureSumRefused, match="distinct"):
        mask({"x": np.ones(3)}, KEYS[0], [*MEMBERS[:2], MEMBERS[1]], LABEL)


def test_refuses_a_group_it_is_not_in() -> None:
    with pytest.raises(SecureSumRefused, match="own"):
        mask({"x": np.ones(3)}, generate_private_key(), MEMBERS, LABEL)


@pytest.mark.parametrize("key", [b"short", bytes(32)], ids=["short", "a point of low order"])
def test_refuses_a_public_key_that_is_none(key: bytes) -> None:
    with pytest.raises(SecureSumRefused, match="not a valid key"):
        mask({"x": np.ones(3)}, KEYS[0], [*MEMBERS, key], LABEL)


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0**31 / 4, -(2.0**31)])
def test_refuses_what_could_overflow_the_sum(value: float) -> None:
    with pytest.raises(SecureSumRefused, match="'x'"):
        masked(np.full((4, 1), value))


def test_the_largest_values_add_up_without_overflow() -> None:
    largest = np.nextafter(2.0**31 / 4, 0.0)
    total = unmask(masked(np.full((4, 1), largest)), 4)
    np.testing.assert_allclose(total["x"], 4 * largest)


def test_refuses_messages_of_different_shape() -> None:
    messages = masked(np.ones((4, 3)))
    messages[2] = {"x": messages[2]["x"][:2]}
    with pytest.raises(SecureSumRefused, match="differ"):
        unmask(messages, 4)


def test_refuses_messages_that_are_not_masked() -> None:
    with pytest.raises(SecureSumRefused, match="64-bit"):
        unmask([{"x": np.ones(3)}] * 4, 4)


def test_refuses_to_add_up_nothing() -> None:
    with pytest.raises(SecureSumRefused, match="0 of 0"):
        unmask([], 0)

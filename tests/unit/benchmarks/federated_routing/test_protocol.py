import numpy as np
import pytest

from benchmarks.federated_routing.protocol import (
    LEAST_ROWS,
    TEST_SHARE,
    deal,
    join,
    logged,
    split,
    with_models,
)
from tests.fakes.evaluations import made_up

ANSWERS = made_up(1200)


def rows_in(tables) -> int:
    return sum(len(table.quality) for table in tables)


def test_every_query_goes_to_one_client_and_one_part():
    clients = split(ANSWERS, 0.6, seed=0)
    parts = [p for c in clients for p in (c.rows.train, c.rows.validation, c.test)]
    found = np.concatenate([part.embeddings for part in parts])
    assert len(found) == len(np.unique(found, axis=0)) == len(ANSWERS.embeddings)


def test_the_same_seed_gives_the_same_rows_whatever_the_models():
    few = with_models(ANSWERS, np.array([3, 0]))
    for one, other in zip(split(ANSWERS, 0.6, 4), split(few, 0.6, 4), strict=True):
        np.testing.assert_array_equal(one.rows.train.embeddings, other.rows.train.embeddings)
        np.testing.assert_array_equal(one.test.embeddings, other.test.embeddings)


def test_another_seed_deals_otherwise():
    one, other = (split(ANSWERS, 0.6, seed)[0].test.embeddings for seed in (0, 1))
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_a_log_keeps_one_model_per_query_and_a_test_keeps_all():
    for client in split(ANSWERS, 0.6, seed=0):
        for log in (client.rows.train, client.rows.validation):
            assert (np.isfinite(log.quality).sum(axis=1) == 1).all()
            np.testing.assert_array_equal(np.isfinite(log.quality), np.isfinite(log.cost_usd))
        assert np.isfinite(client.test.quality).all()


def test_a_quarter_of_each_client_is_for_the_test():
    for client in split(ANSWERS, 0.6, seed=0):
        n_rows = rows_in((client.rows.train, client.rows.validation, client.test))
        assert abs(len(client.test.quality) - TEST_SHARE * n_rows) <= 0.5


def test_train_answers_are_of_the_train_queries():
    for client in split(ANSWERS, 0.6, seed=0):
        kept = np.isfinite(client.rows.train.quality)
        np.testing.assert_array_equal(
            client.train_answers.quality[kept], client.rows.train.quality[kept]
        )


def test_a_small_alpha_gives_each_client_few_tasks():
    def largest_share(alpha: float) -> float:
        shares = [
            max(client.test.tasks.count(task) for task in set(ANSWERS.tasks))
            / len(client.test.tasks)
            for client in split(made_up(4000), alpha, 0, n_clients=4)
        ]
        return float(np.mean(shares))

    assert largest_share(0.03) > largest_share(100.0) + 0.3


def test_nobody_is_dealt_fewer_rows_than_the_least():
    owner = deal(ANSWERS.tasks, 0.3, 8, np.random.default_rng(0), LEAST_ROWS)
    assert np.bincount(owner, minlength=8).min() >= LEAST_ROWS


def test_says_that_there_are_too_few_queries_to_deal():
    with pytest.raises(ValueError, match="cannot be dealt to 10 clients"):
        deal(("a",) * 20, 0.6, 10, np.random.default_rng(0), LEAST_ROWS)


def test_a_model_that_a_client_never_asks_is_never_logged():
    log = logged(ANSWERS, np.array([0.5, 0.0, 0.5, 0.0]), np.random.default_rng(0))
    assert not np.isfinite(log.quality[:, [1, 3]]).any()


def test_joined_parts_are_the_whole():
    clients = split(ANSWERS, 0.6, seed=0)
    whole = join(client.test for client in clients)
    assert len(whole.quality) == len(whole.tasks) == rows_in(client.test for client in clients)

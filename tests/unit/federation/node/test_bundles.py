"""What is told of a log: bundles that stay as they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.node.bundles import MOST_ANSWERS, BundleFile, Bundles
from router_models.artifacts.registry import ModelRegistry
from router_models.evaluation.log_rows import LoggedRows
from tests.fakes.evaluations import DIMENSION, MODELS, made_up

LEAST_ROWS = 10


def logged(n_queries: int, seed: int = 0, share_answered: float = 0.3) -> LoggedRows:
    truth = made_up(n_queries, seed=seed, share_answered=share_answered)
    query, model = np.nonzero(np.isfinite(truth.quality))
    return LoggedRows(
        truth.embeddings,
        (np.arange(n_queries) % 3 == 0).astype(np.int8),
        MODELS,
        query,
        model,
        truth.quality[query, model],
        truth.cost_usd[query, model],
        np.empty(0, np.intp),
        np.empty((0, len(MODELS)), np.float32),
    )


def first(rows: LoggedRows, n_queries: int) -> LoggedRows:
    """The log as it was after its first queries."""
    answers = rows.query < n_queries
    part = {name: getattr(rows, name)[answers] for name in ("query", "model", "score", "cost_usd")}
    return replace(
        rows, embeddings=rows.embeddings[:n_queries], split=rows.split[:n_queries], **part
    )


def bundled(rows: LoggedRows, least_rows: int = LEAST_ROWS) -> Bundles:
    return Bundles.none(DIMENSION).updated(rows, least_rows)


@given(n_queries=st.integers(0, 120), share=st.floats(0.1, 1.0), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_every_bundle_has_enough_rows_of_one_split(n_queries, share, seed) -> None:
    rows = logged(n_queries, seed, share)
    bundles = bundled(rows)
    answers = np.bincount(bundles.bundle, minlength=len(bundles.split))
    sizes = answers / np.isfinite(bundles.quality).sum(axis=1)
    assert (sizes >= LEAST_ROWS).all()
    told = list(zip(bundles.members.tolist(), bundles.model.tolist(), strict=True))
    assert len(set(told)) == len(told)
    assert set(bundles.split.tolist()) <= {0, 1}


def test_made_up_rows_add_up_to_what_the_rows_add_up_to() -> None:
    rows = logged(300, share_answered=1.0)
    table = bundled(rows).rows()
    for split in ("train", "val"):
        told, true = (each.evaluations(split, MODELS, ModelRegistry()) for each in (table, rows))
        assert len(told.quality) == len(true.quality)
        for name in ("embeddings", "quality", "cost_usd"):
            made_up_sum, sum_ = (getattr(each, name).sum(axis=0) for each in (told, true))
            assert np.allclose(made_up_sum, sum_, rtol=1e-3, atol=1e-3)
        assert np.allclose(told.embeddings.std(axis=0), true.embeddings.std(axis=0), rtol=0.15)


def test_a_bundle_holds_rows_that_lie_near_each_other() -> None:
    rows = logged(400, share_answered=1.0)
    bundles = bundled(rows)
    apart = np.linalg.norm(bundles.deviation, axis=1).mean()
    assert apart < 0.6 * np.linalg.norm(rows.embeddings.std(axis=0))


def test_bundles_stay_as_they_are_while_rows_arrive() -> None:
    rows = logged(300)
    before = bundled(first(rows, 150))
    after = before.updated(rows, LEAST_ROWS)
    n_bundles = len(before.split)
    assert n_bundles > 3
    assert len(after.split) > n_bundles
    assert np.array_equal(after.mean[:n_bundles], before.mean)
    assert np.array_equal(after.quality[:n_bundles], before.quality, equal_nan=True)


def test_new_rows_wait_until_there_are_enough_of_them() -> None:
    rows = logged(400, share_answered=0.0)
    before = bundled(first(rows, 390))
    after = before.updated(first(rows, 394), LEAST_ROWS)
    assert np.array_equal(before.members, after.members)


def test_a_query_is_in_few_bundles_however_many_models_answer_it() -> None:
    rows = logged(400, share_answered=0.5)
    wide = replace(
        rows,
        models=tuple(f"model-{place}" for place in range(40)),
        model=rows.query % 10 * 4 + rows.model,
    )
    _, counts = np.unique(bundled(wide).members, return_counts=True)
    assert counts.max() <= MOST_ANSWERS


def test_answers_of_an_unusual_combination_of_models_are_told_of_apart() -> None:
    rows = logged(300, share_answered=0.5)
    told, true = (
        each.evaluations("train", MODELS, ModelRegistry()) for each in (bundled(rows).rows(), rows)
    )
    counts = [np.isfinite(each.quality).sum(axis=0) for each in (told, true)]
    assert (counts[0] > 0.9 * counts[1]).all()


def test_an_answer_that_comes_later_or_changes_is_not_told_of() -> None:
    rows = logged(300)
    regraded = replace(rows, score=1.0 - rows.score)
    before = bundled(rows)
    assert np.array_equal(
        before.updated(regraded, LEAST_ROWS).quality, before.quality, equal_nan=True
    )


def test_the_rows_of_a_bundle_that_lost_one_are_never_used_again() -> None:
    rows = logged(200, share_answered=0.0)
    before = bundled(rows)
    lost = before.members[0]
    without_one = replace(rows, embeddings=rows.embeddings.copy())
    digest_of = dict(zip(before.members.tolist(), before.bundle.tolist(), strict=True))
    for place in range(len(rows.embeddings)):
        alone = bundled(first(replace(rows, embeddings=rows.embeddings[place:]), 1), 1)
        if alone.members[0] == lost:
            without_one.embeddings[place] += 1.0
    after = before.updated(without_one, LEAST_ROWS)
    siblings = [each for each, bundle in digest_of.items() if bundle == digest_of[lost]]
    place_of = dict(zip(after.members.tolist(), after.bundle.tolist(), strict=True))
    assert len(after.split) == len(before.split) - 1
    assert [place_of[each] for each in siblings if each != lost] == [-1] * (len(siblings) - 1)
    assert lost not in place_of
    assert len(after.rows().embeddings) == (after.bundle >= 0).sum()


def test_a_larger_minimum_drops_smaller_bundles() -> None:
    rows = logged(200, share_answered=0.0)
    assert len(bundled(rows).updated(rows, 100).split) == 0


def test_what_was_told_of_survives_a_restart(tmp_path: Path) -> None:
    rows = logged(300)
    path = tmp_path / "bundles.npz"
    BundleFile(path, "static").update(first(rows, 200), LEAST_ROWS)
    restarted = BundleFile(path, "static").update(rows, LEAST_ROWS)
    expected = bundled(first(rows, 200)).updated(rows, LEAST_ROWS)
    assert np.array_equal(restarted.mean, expected.mean)
    assert restarted.models == expected.models


def test_another_encoders_bundles_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "bundles.npz"
    BundleFile(path, "static").update(logged(200), LEAST_ROWS)
    narrower = logged(200, seed=1)
    narrower = replace(narrower, embeddings=narrower.embeddings[:, :5])
    assert BundleFile(path, "other").update(narrower, LEAST_ROWS).mean.shape[1] == 5


def test_without_a_place_to_remember_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        BundleFile(tmp_path / "missing" / "bundles.npz", "static").update(logged(50), LEAST_ROWS)


def weighing(rows: LoggedRows, weight: np.ndarray) -> LoggedRows:
    return replace(rows, weight=weight.astype(np.float32))


def test_answers_are_told_with_the_weight_that_they_have_on_average() -> None:
    rows = logged(300, share_answered=1.0)
    rows = weighing(rows, np.random.default_rng(0).uniform(0.1, 1.0, len(rows.score)))
    told, true = (
        each.evaluations("train", MODELS, ModelRegistry()) for each in (bundled(rows).rows(), rows)
    )
    assert np.allclose(told.counts.sum(axis=0), true.counts.sum(axis=0), rtol=1e-4)
    bundled_sum, sum_ = ((each.counts * each.quality).sum(axis=0) for each in (told, true))
    assert np.allclose(bundled_sum, sum_, rtol=0.1)


def test_no_answer_is_told_by_giving_the_others_of_its_bundle_no_weight() -> None:
    rows = logged(LEAST_ROWS, share_answered=1.0)
    rows = replace(rows, split=np.zeros_like(rows.split))
    heavy = rows.query == 3
    told = bundled(weighing(rows, np.where(heavy, 1.0, 1e-6))).rows()
    plain = bundled(rows).rows()
    assert np.array_equal(told.score, plain.score)


def test_bundles_that_were_remembered_without_weights_count_as_before(tmp_path: Path) -> None:
    rows = logged(200)
    file = BundleFile(tmp_path / "bundles.npz", "encoder-1")
    file.update(rows, LEAST_ROWS)
    with np.load(file.path) as stored:
        older = {name: stored[name] for name in stored if name != "weight"}
    np.savez(file.path, **older)
    again = file.update(rows, LEAST_ROWS).rows()
    assert again.weight is None
    assert np.array_equal(again.score, bundled(rows).rows().score)

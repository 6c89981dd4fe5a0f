"""Sessions whose sums are added up unseen."""

import numpy as np
import pytest

from benchmarks.federation_simulation.in_process import Exchanged
from benchmarks.federation_simulation.simulation import simulate
from federation.errors import QuorumMissing, ReplyRejected
from federation.learning.kmeans import ClusterSums
from federation.protocol.protocol import ARRAYS, from_record
from federation.site import SitePolicy
from router_models.estimators.arrays import strip_prefix
from tests.fakes.evaluations import made_up
from tests.fakes.sites import SETTINGS, changed, during, plan_of, silence, site_of, sites_of

KINDS = tuple(SETTINGS)
SECURE = {"secure_sum": True, "quorum": 3}
QUERIES = made_up(50, seed=77).embeddings
LAST = 4
CELL_ARRAYS = ClusterSums.shapes({"n_clusters": 4, "n_models": 4})


def in_the_clear(kind):
    """The same session without masks: no cap and no minimum, since totals know neither."""
    sites = [site_of(index, 60 + 20 * index, SitePolicy(least_rows=1)) for index in range(4)]
    return simulate(sites, plan_of(kind, least_rows=1, largest_share=1.0, has_guard=False))


def masked_replies(traffic):
    types = ("query.rows", "train.cells", "train.gram", "train.weight_sums", "evaluate.loss_sums")
    return [m for m in traffic if m.instruction.metadata.message_type in types]


def rows_in(result):
    return float(strip_prefix("rows.", result.progress.state)["rows"][0])


@pytest.mark.parametrize("kind", ["mlp", "ridge"])
def test_a_masked_session_makes_the_same_router(kind) -> None:
    masked = simulate(sites_of(), plan_of(kind, has_guard=False, **SECURE)).estimator
    found, wanted = masked.predict(QUERIES), in_the_clear(kind).estimator.predict(QUERIES)
    np.testing.assert_allclose(found.quality, wanted.quality, atol=1e-4)
    np.testing.assert_allclose(found.cost_usd, wanted.cost_usd, rtol=1e-3, atol=1e-8)


def test_small_cells_count_where_nobody_sees_them() -> None:
    masked = simulate(sites_of(), plan_of("kmeans", least_rows=60, has_guard=False, **SECURE))
    cells = strip_prefix("cells.", masked.progress.state)
    rows = np.isfinite(np.concatenate([site.train.quality for site in sites_of()])).sum()
    assert cells["count"].sum() == pytest.approx(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_reply_holds_random_words_alone(kind) -> None:
    traffic: list[Exchanged] = []
    simulate(sites_of(), plan_of(kind, **SECURE), traffic=traffic)
    replies = masked_replies(traffic)
    assert replies
    for message in replies:
        for array in from_record(message.reply.content.array_records[ARRAYS]).values():
            assert array.dtype == np.uint64
            assert len(np.unique(array)) == array.size


def test_the_report_counts_every_site_of_a_total() -> None:
    result = simulate(sites_of(), plan_of("kmeans", **SECURE))
    assert result.progress.state["sites"][0] == 4


def test_after_a_drop_out_the_others_repeat_the_step() -> None:
    faults = {LAST: during("query.rows", silence)}
    result = simulate(sites_of(), plan_of("kmeans", **SECURE), faults=faults)
    assert rows_in(result) == pytest.approx(60 + 80 + 100)
    sums = [report for report in result.report.rounds if report.exchange == "query.rows"]
    assert [report.silent for report in sums] == [("site-3",), ()]


def test_a_site_that_dropped_out_takes_part_in_the_next_step() -> None:
    faults = {LAST: during("query.rows", silence)}
    result = simulate(sites_of(), plan_of("kmeans", **SECURE), faults=faults)
    last = [report for report in result.report.rounds if report.exchange == "train.cells"][-1]
    assert "site-3" in last.accepted


def test_a_site_that_sends_no_key_is_left_out() -> None:
    faults = {LAST: during("query.keys", silence)}
    result = simulate(sites_of(), plan_of("kmeans", **SECURE), faults=faults)
    assert rows_in(result) == pytest.approx(60 + 80 + 100)


def test_a_site_whose_key_was_swapped_on_the_way_masks_nothing() -> None:
    swap = changed(lambda payload: {"key": np.roll(payload["key"], 1)})
    faults = {LAST: during("query.keys", swap)}
    result = simulate(sites_of(), plan_of("kmeans", **SECURE), faults=faults)
    sums = next(report for report in result.report.rounds if report.exchange == "query.rows")
    assert "include this member's own" in sums.rejected["site-3"]


def test_two_sites_are_too_few_to_hide_among() -> None:
    faults = {node: during("query.rows", silence) for node in (3, 4)}
    with pytest.raises(QuorumMissing, match="2 sites gave accepted answers, the quorum is 3"):
        simulate(sites_of(), plan_of("kmeans", **SECURE), faults=faults)


@pytest.mark.parametrize(
    ("shifted", "reason"),
    [
        ({"quality_sum"}, r"secure sum of train.cells cannot be used: the mean quality"),
        (set(CELL_ARRAYS), r"stands for .* rows, and the site announced about 448"),
    ],
)
def test_a_spoilt_total_ends_the_session_and_says_which(shifted, reason) -> None:
    shift = np.uint64(1 << 60)
    spoil = changed(lambda p: {n: a + shift if n in shifted else a for n, a in p.items()})
    faults = {LAST: during("train.cells", spoil)}
    with pytest.raises(ReplyRejected, match=reason):
        simulate(sites_of(), plan_of("kmeans", **SECURE), faults=faults)


def test_validation_that_cannot_be_added_up_stops_nothing() -> None:
    faults = {node: during("evaluate.loss_sums", silence) for node in (2, 3, 4)}
    result = simulate(sites_of(), plan_of("mlp", **SECURE), faults=faults)
    assert result.progress.losses == {}


def test_validation_without_keys_stops_nothing() -> None:
    asked = []

    def silent_every_other_time(instruction, reply):
        asked.append(instruction)
        return None if len(asked) in {3, 5, 7} else reply

    faults = {2: during("query.keys", silent_every_other_time)}
    result = simulate(sites_of(3), plan_of("mlp", has_guard=False, **SECURE), faults=faults)
    assert result.progress.losses == {}


def test_a_site_that_wants_masks_refuses_a_plan_without() -> None:
    picky = site_of(9, policy=SitePolicy(needs_secure_sum=True))
    result = simulate([*sites_of(), picky], plan_of("kmeans"))
    assert "takes part only with secure sums" in next(iter(result.report.refused.values()))


def test_a_site_that_wants_masks_takes_part_in_a_plan_with() -> None:
    picky = site_of(9, policy=SitePolicy(needs_secure_sum=True))
    result = simulate([*sites_of(), picky], plan_of("kmeans", **SECURE))
    assert "site-9" in result.report.members


@pytest.mark.parametrize(
    "wrong", [{"rule": "median"}, {"rule": "trimmed_mean"}, {"norm_bound": 2.0}]
)
def test_robust_rules_and_secure_sums_exclude_each_other(wrong) -> None:
    with pytest.raises(ValueError, match="use one or the other"):
        plan_of("mlp", **SECURE, **wrong)


def test_a_secure_sum_needs_a_quorum_of_three() -> None:
    with pytest.raises(ValueError, match="quorum of at least 3"):
        plan_of("mlp", secure_sum=True, quorum=2)

"""What a site does to its answers before they leave."""

from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.federation_simulation.in_process import Exchanged, InProcessGrid
from benchmarks.federation_simulation.simulation import LONG_AGO, MemoryCheckpoints, simulate
from federation.coordinator.session import Session
from federation.coordinator.strategy_table import with_calibrated_noise
from federation.errors import PlanRefused, QuorumMissing
from federation.exchanges.exchange import Task
from federation.exchanges.guard import ReachExchange
from federation.exchanges.kmeans import CENTROIDS, CellExchange, CentroidExchange
from federation.exchanges.masked import MEMBERS, MaskingKey, unmask_total
from federation.exchanges.rows import RowSumExchange
from federation.learning.settings import FederatedMlpSettings
from federation.node.client_app import build_client_app
from federation.node.protection import Protection
from federation.privacy.accounting import PrivacyAccount, Release
from federation.privacy.members import Identity
from federation.privacy.noise import clipped_sums, random_centroids
from federation.privacy.secure_sum import SecureSumRefused
from federation.privacy.settings import NoiseSettings
from federation.protocol.protocol import Instruction, TrainingPlan
from federation.protocol.updates import Reply
from federation.site import SitePolicy
from tests.fakes.evaluations import DIMENSION, MODELS
from tests.fakes.sites import plan_of, site_of, sites_of

COLUMNS = tuple(sorted(MODELS))
NOISE = NoiseSettings(2.0, dict.fromkeys(MODELS, 0.01), longest_vector=6.0)
NOISY = {"noise": NOISE, "has_guard": False}
SECURE = {"secure_sum": True, "quorum": 3}


def instruction_of(**changes) -> Instruction:
    sent = {CENTROIDS: random_centroids(4, DIMENSION, 0)}
    for name, array in (("shift", np.zeros(DIMENSION)), ("factor", np.ones(DIMENSION))):
        sent[f"scales.{name}"] = array.astype(np.float32)
    sent["scales.cost_scale"] = np.ones((2, 4), np.float32)
    for name in ("cost_floor_usd", "quality_means", "cost_means_usd"):
        sent[f"scales.{name}"] = np.zeros(4, np.float32)
    return Instruction(plan_of("kmeans", columns=COLUMNS, **changes), 1, sent)


def pinned(n_sites: int) -> list[Identity]:
    """Sites that have each other's keys."""
    own = [ec.generate_private_key(ec.SECP384R1()) for _ in range(n_sites)]
    return [Identity.of(key, [other.public_key() for other in own]) for key in own]


def seeded(seed: int = 0) -> Protection:
    return Protection(new_rng=lambda: np.random.default_rng(seed))


def session_of(plan: TrainingPlan, account: PrivacyAccount) -> Session:
    nodes = {n: build_client_app(site, account) for n, site in enumerate(sites_of(), start=1)}
    grid = InProcessGrid(nodes)
    return Session(grid, plan, MemoryCheckpoints(), grid.clock, grid.sleep)


@pytest.mark.parametrize("options", [NOISY, {**NOISY, **SECURE}], ids=["noise", "noise in a sum"])
@pytest.mark.parametrize("kind", ["kmeans", "mlp"])
def test_a_noisy_session_makes_a_router(kind, options) -> None:
    result = simulate(sites_of(), plan_of(kind, **options))
    assert result.estimator.models == COLUMNS
    assert not any(report.rejected for report in result.report.rounds)


def test_with_noise_no_site_is_asked_for_what_has_none() -> None:
    traffic: list[Exchanged] = []
    simulate(sites_of(), plan_of("mlp", **NOISY), traffic=traffic)
    asked = {message.instruction.metadata.message_type for message in traffic}
    assert asked == {"query.hello", "query.rows", "train.weights", "query.publish"}


def test_noise_is_drawn_anew_for_every_answer() -> None:
    task = Task(site_of(1), instruction_of(**NOISY))
    first, second = (Protection().answer(RowSumExchange(), task) for _ in range(2))
    assert not np.array_equal(first["feature_sum"], second["feature_sum"])


@given(seed=st.integers(0, 2**32 - 1), multiplier=st.sampled_from([0.1, 3.0, 100.0]))
@settings(max_examples=25, deadline=None)
def test_noise_never_takes_an_answer_out_of_its_form(seed: int, multiplier: float) -> None:
    noise = NoiseSettings(multiplier, NOISE.dearest_usd)
    task = Task(site_of(1, 20), instruction_of(noise=noise, has_guard=False))
    for exchange in (RowSumExchange(), CellExchange()):
        payload = seeded(seed).answer(exchange, task)
        exchange.form(task.instruction).check(payload)


def test_members_of_a_secure_sum_share_the_noise_as_if_half_of_them_told_theirs() -> None:
    exchange, keys = RowSumExchange(), [MaskingKey(identity) for identity in pinned(8)]
    instruction = instruction_of(**NOISY, **SECURE)
    public_keys = np.stack([np.frombuffer(key.generate(instruction), np.uint8) for key in keys])
    instruction.sent[MEMBERS] = public_keys
    tasks = [Task(site_of(index, 20), instruction) for index in range(8)]
    replies = [
        Reply(str(i), Protection(masking_key=key).answer(exchange, task))
        for i, (key, task) in enumerate(zip(keys, tasks, strict=True))
    ]
    total = unmask_total(exchange, instruction, replies).payload
    bounds = exchange.bounds(instruction.plan)
    exact = [
        clipped_sums(lambda rows: exchange.local_sums(instruction, rows), task.train_rows(), bounds)
        for task in tasks
    ]
    off = total["feature_sum"] - sum(sums["feature_sum"] for sums in exact)
    deviation = NOISE.noise_multiplier * np.sqrt(len(bounds)) * NOISE.longest_vector * np.sqrt(2)
    assert 0.4 * deviation < off.std() < 1.8 * deviation


def test_every_noisy_answer_is_charged(tmp_path) -> None:
    account = PrivacyAccount(tmp_path / "spent.json", epsilon=100.0, delta=1e-4)
    protection = Protection(account)
    task = Task(site_of(1), instruction_of(**NOISY))
    protection.answer(RowSumExchange(), task)
    protection.answer(CellExchange(), task)
    assert account.read().spent == (Release(2.0), Release(2.0))


def test_a_spent_budget_ends_taking_part(tmp_path) -> None:
    account = PrivacyAccount(tmp_path / "spent.json", epsilon=3.0, delta=1e-4)
    with pytest.raises(QuorumMissing, match=r"the limit is 3\.00"):
        session_of(plan_of("mlp", **NOISY), account).run(LONG_AGO)


def test_a_site_that_keeps_an_account_sends_nothing_without_noise(tmp_path) -> None:
    account = PrivacyAccount(tmp_path / "spent.json", epsilon=3.0, delta=1e-4)
    with pytest.raises(PlanRefused, match="takes part only with noise"):
        Protection(account).check(plan_of("kmeans"), SitePolicy())


def test_a_site_that_wants_noise_sends_nothing_without() -> None:
    with pytest.raises(PlanRefused, match="takes part only with noise"):
        Protection().check(plan_of("kmeans"), SitePolicy(needs_noise=True))


@pytest.mark.parametrize("exchange", [CentroidExchange(), ReachExchange()], ids=lambda e: e.name)
def test_what_cannot_bear_noise_does_not_leave_a_noisy_session(exchange) -> None:
    task = Task(site_of(1), instruction_of(**NOISY))
    with pytest.raises(PlanRefused, match="cannot be answered with noise"):
        seeded().answer(exchange, task)
    with pytest.raises(PlanRefused, match="cannot be answered with noise"):
        exchange.noisy_answer(task, np.random.default_rng(0), 1)


def test_a_noisy_plan_without_prices_is_refused() -> None:
    noise = {"noise": NoiseSettings(1.0), "has_guard": False}
    with pytest.raises(PlanRefused, match="dearest_usd_by_model lacks cheap, coder"):
        seeded().answer(CellExchange(), Task(site_of(1), instruction_of(**noise)))


def test_a_key_masks_one_answer_only() -> None:
    rings = [MaskingKey() for _ in range(3)]
    instruction = instruction_of(**SECURE)
    instruction.sent[MEMBERS] = np.stack(
        [np.frombuffer(r.generate(instruction), np.uint8) for r in rings]
    )
    rings[0].mask(RowSumExchange(), instruction, {"x": np.ones(3)})
    with pytest.raises(SecureSumRefused, match="used already"):
        rings[0].mask(RowSumExchange(), instruction, {"x": np.ones(3)})


@pytest.mark.parametrize(
    ("kind", "wrong", "reason"),
    [
        ("ridge", NOISY, "cannot be used with a ridge router"),
        ("kmeans", {"noise": NOISE}, "has_guard = false"),
        (
            "mlp",
            {**NOISY, "settings": FederatedMlpSettings(adam_at="clients")},
            'adam_at = "coordinator"',
        ),
    ],
)
def test_refuses_a_plan_that_noise_does_not_go_with(kind, wrong, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        plan_of(kind, **wrong)


def test_a_plan_with_protections_survives_json() -> None:
    plan = plan_of("mlp", **NOISY, **SECURE)
    assert TrainingPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(("kind", "releases"), [("kmeans", 2), ("mlp", 4)])
def test_a_calibrated_session_costs_a_site_just_its_epsilon(tmp_path, kind, releases) -> None:
    plan = with_calibrated_noise(plan_of(kind, **NOISY), epsilon=4.0, delta=1e-4)
    account = PrivacyAccount(tmp_path / "spent.json", epsilon=4.0, delta=1e-4)
    site = sites_of()[0]
    nodes = {1: build_client_app(site, account)}
    grid = InProcessGrid(nodes)
    plan = replace(plan, quorum=1)
    Session(grid, plan, MemoryCheckpoints(), grid.clock, grid.sleep).run(LONG_AGO)
    assert len(account.read().spent) == releases
    assert 3.9 < account.read().epsilon_spent() <= 4.0


def test_a_plan_without_noise_cannot_be_calibrated() -> None:
    with pytest.raises(ValueError, match="without noise"):
        with_calibrated_noise(plan_of("kmeans"), 1.0, 1e-4)


@pytest.mark.parametrize("options", [SECURE, {**NOISY, **SECURE}], ids=["masks", "masks and noise"])
def test_a_masked_question_that_names_no_members_is_refused(options) -> None:
    protection = seeded()
    protection.masking_key.generate(instruction_of(**options))
    with pytest.raises(SecureSumRefused, match="names no keys"):
        protection.answer(RowSumExchange(), Task(site_of(1), instruction_of(**options)))


def test_a_masked_gradient_is_charged_as_a_sampled_step(tmp_path) -> None:
    account = PrivacyAccount(tmp_path / "spent.json", epsilon=100.0, delta=1e-4)
    session_of(plan_of("mlp", quorum=4, secure_sum=True, **NOISY), account).run(LONG_AGO)
    # Four sites share this account: each sends sums once and a gradient in each of three rounds.
    assert account.read().spent.count(Release(2.0)) == 4
    assert account.read().spent.count(NOISE.gradient()) == 12

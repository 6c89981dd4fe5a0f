"""A coordinator that wants single rows asks the real client app of a gateway with a database."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from sqlalchemy import Engine, delete

from federation.deployment.certificates import CertificateFolder
from federation.deployment.node_keys import NodeKeys
from federation.exchanges.kmeans import CellExchange
from federation.exchanges.masked import KEY, MEMBERS, MaskingKey
from federation.node.bundles import BundleFile
from federation.node.gateway_site import GatewaySite
from federation.node.verdicts import VerdictLimit
from federation.privacy.members import Identity, unsigned
from federation.privacy.noise import random_centroids
from federation.privacy.secure_sum import generate_private_key, public_key, unmask
from federation.privacy.settings import NoiseSettings
from federation.protocol.protocol import (
    ARRAYS,
    Instruction,
    Payload,
    from_record,
    read_refusal,
    read_verdict,
)
from federation.site import SitePolicy
from gateway.artifacts.store import ArtifactStore
from gateway.federation.team_rows import TeamsRows
from gateway.storage.database import create_database_engine
from gateway.types import TurnRecord
from migrations.tables import TURNS
from router_models.artifacts.sealed_file import RequestEncoder
from router_models.encoders.request_shape import WIDTH
from tests.fakes.artifacts import EncoderIdentity, router_artifact
from tests.fakes.coordinators import COLUMNS, PLAN, Coordinator, about, caught
from tests.fakes.evaluations import DIMENSION, MODELS, made_up
from tests.fakes.logged import fill, records
from tests.fakes.schemas import with_schema

LEAST_ROWS = 10
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
MANY = random_centroids(200, DIMENSION, 0)
"""A cell for almost every row."""
TINY = NoiseSettings(1e-12, dict.fromkeys(MODELS, 1.0))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path / 'waypost.db'}")
    with_schema(engine)
    log(engine, tmp_path, 300)
    yield engine
    engine.dispose()


def log(engine: Engine, folder: Path, n_queries: int, prefix: str = "") -> None:
    """Let a gateway write graded answers, one model's to each query."""
    rows = records(made_up(n_queries, seed=n_queries), prefix=prefix)
    asyncio.run(fill(engine, folder, rows))


@pytest.fixture
def site_in(tmp_path: Path, engine: Engine) -> Callable[..., GatewaySite]:
    def build(**changes: Any) -> GatewaySite:
        """Start the node, once more if it ran before: nothing is remembered but what is on disk."""
        encoder = EncoderIdentity(dimension=DIMENSION)
        known: dict[str, Any] = {
            "name": "acme",
            "encoder": encoder,
            "log": TeamsRows(engine, None),
            "store": ArtifactStore(tmp_path / "routers"),
            "default_artifact": None,
            "prices": np.geomspace(1.0, 100.0, 5),
            "clock": lambda: NOON,
            "policy": SitePolicy(least_rows=LEAST_ROWS, least_noise=0.1),
            "bundles": BundleFile(tmp_path / "bundles.npz", encoder.id),
            "verdicts": VerdictLimit(tmp_path / "verdicts.json", per_day=3),
        }
        return GatewaySite(**(known | changes))

    return build


def boundaries(steps: int) -> Iterator[np.ndarray]:
    """Two centroids, between which a boundary turns a little from question to question."""
    first, second = random_centroids(2, DIMENSION, 1)
    for angle in np.linspace(0.0, np.pi / 2, steps):
        yield np.stack([first, np.cos(angle) * -first + np.sin(angle) * second])


def fewest_in(differences: Sequence[np.ndarray]) -> float:
    """Fewest rows of one model by which two answers differ, of those that differ."""
    moved = np.abs(np.concatenate([np.ravel(each) for each in differences]))
    return float(moved[moved > 1e-6].min())


def read_alone(sums: Iterable[Mapping[str, np.ndarray]]) -> int:
    """Count the rows of the log whose quality and cost a coordinator reads off its sums."""
    truth, found = made_up(300, seed=300), set()
    for each in sums:
        count = np.abs(each["count"])
        for model, name in enumerate(COLUMNS):
            column = MODELS.index(name)
            for cell in np.flatnonzero(np.abs(count[:, model] - 1.0) < 1e-3):
                quality, cost = (abs(each[f"{of}_sum"][cell, model]) for of in ("quality", "cost"))
                is_it = np.isclose(truth.cost_usd[:, column], cost, rtol=2e-5, atol=0)
                is_it &= np.isclose(truth.quality[:, column], quality, atol=1e-3)
                found |= {(name, int(row)) for row in np.flatnonzero(is_it)}
    return len(found)


def differences_of(site: GatewaySite) -> list[dict[str, np.ndarray]]:
    """Move a boundary through a site's rows, and subtract each answer from the next."""
    coordinator = Coordinator(site)
    answers = [coordinator.cells(pair) for pair in boundaries(400)]
    return [{n: after[n] - before[n] for n in after} for before, after in pairwise(answers)]


def test_a_boundary_that_moves_isolates_no_row(site_in) -> None:
    differences = differences_of(site_in())
    assert any(each["count"].any() for each in differences)
    assert read_alone(differences) == 0


def test_a_site_that_trusts_its_coordinator_is_open_to_that(site_in) -> None:
    trusting = SitePolicy(least_rows=LEAST_ROWS, trusts_coordinator=True)
    assert read_alone(differences_of(site_in(policy=trusting))) > 10


def test_noise_that_hides_nothing_is_refused_by_name(site_in) -> None:
    plan = replace(PLAN, noise=TINY, has_guard=False)
    reply = Coordinator(site_in()).ask("train.cells", plan, **about(random_centroids(64, 12, 0)))
    assert "federation.node.least_noise" in (read_refusal(reply) or "")


def test_noise_that_hides_nothing_tells_no_single_row_where_a_site_has_no_floor(site_in) -> None:
    site = site_in(policy=SitePolicy(least_rows=LEAST_ROWS))
    plan = replace(PLAN, noise=TINY, has_guard=False)
    told = Coordinator(site).cells(MANY, plan)
    assert (np.abs(told["count"] - 1.0) < 1e-3).sum() > 10
    assert read_alone([told]) == 0


def masked_alone(coordinator: Coordinator) -> tuple[Message, Callable[[], Payload]]:
    """Invent two members of a secure sum; return the answer, and what takes off their masks."""
    plan = replace(PLAN, secure_sum=True, quorum=3)
    card = coordinator.told("query.keys", plan)[KEY]
    private_keys = [generate_private_key() for _ in range(2)]
    cards = [np.frombuffer(unsigned(public_key(each)), np.uint8) for each in private_keys]
    question = {**about(MANY), MEMBERS: np.stack([card, *cards])}
    reply = coordinator.ask("train.cells", plan, **question)

    def unmasked() -> Payload:
        instruction = Instruction(plan, 1, question)
        told = from_record(reply.content.array_records[ARRAYS])
        nothing = {name: np.zeros(array.shape) for name, array in told.items()}
        others = []
        for private_key in private_keys:
            ring = MaskingKey()
            ring._key = private_key
            others.append(ring.mask(CellExchange(), instruction, nothing))
        return dict(unmask([told, *others], 3))

    return reply, unmasked


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    """A site that has pinned the keys of two others."""
    folder = CertificateFolder(tmp_path / "keys")
    for name in ("acme", "borealis", "cirrus"):
        folder.make_node_key(name)
    pinned = tuple(NodeKeys.read(folder.public_keys).keys.values())
    return Identity.from_keys((folder.private_keys / "acme.key").read_bytes(), pinned)


def test_invented_members_of_a_secure_sum_are_refused_by_name(site_in, identity) -> None:
    reply, _ = masked_alone(Coordinator(site_in(), identity=identity))
    assert "federation.node.members" in (read_refusal(reply) or "")


def test_a_member_that_was_pinned_counts_once(site_in, identity) -> None:
    coordinator = Coordinator(site_in(), identity=identity)
    plan = replace(PLAN, secure_sum=True, quorum=3)
    cards = [coordinator.told("query.keys", plan)[KEY] for _ in range(3)]
    question = {**about(random_centroids(4, DIMENSION, 0)), MEMBERS: np.stack(cards)}
    reply = coordinator.ask("train.cells", plan, **question)
    assert "only 1 of the sites in federation.node.members" in (read_refusal(reply) or "")


def test_invented_members_tell_no_single_row_where_nobody_is_pinned(site_in) -> None:
    _, unmasked = masked_alone(Coordinator(site_in()))
    assert unmasked()["count"].sum() > 100
    assert read_alone([unmasked()]) == 0


def test_many_sessions_tell_no_more_than_one(site_in) -> None:
    pair = next(boundaries(2))
    answers = []
    for seed in range(20):
        coordinator = Coordinator(site_in())
        plan = replace(PLAN, seed=seed)
        coordinator.ask("query.hello", plan)
        answers.append(coordinator.cells(pair, plan)["count"])
    assert all(np.array_equal(answers[0], each) for each in answers)


def test_rows_that_arrive_or_leave_between_sessions_are_never_told_of_alone(
    site_in, engine, tmp_path
) -> None:
    def told() -> np.ndarray:
        coordinator = Coordinator(site_in())
        coordinator.ask("query.hello", PLAN)
        return coordinator.told("query.rows")["count"]

    answers = [told()]
    for day in range(12):
        log(engine, tmp_path, 3 + day, prefix=f"{day}-")
        answers.append(told())
    with engine.begin() as connection:
        for query in range(5):
            gone = TURNS.c.request_id.startswith(f"req_{query}_", autoescape=True)
            connection.execute(delete(TURNS).where(gone))
    answers.append(told())
    differences = [after - before for before, after in pairwise(answers)]
    assert any((each > 0).any() for each in differences)
    assert (differences[-1] < 0).any()
    assert fewest_in(differences) >= LEAST_ROWS


def rows_read_by_weights(site: GatewaySite) -> tuple[int, int]:
    """Count the rows of a model whose vector and quality weights read, and all that they read."""
    truth, column = made_up(300, seed=300), MODELS.index("cheap")
    towards = np.random.default_rng(5).standard_normal(DIMENSION)
    read, found = caught(site, "cheap", towards, 100), set()
    for vector, quality in read:
        distance = np.linalg.norm(truth.embeddings - vector, axis=1)
        nearest = int(distance.argmin())
        if distance[nearest] < 0.1 and abs(truth.quality[nearest, column] - quality) < 0.1:
            found.add(nearest)
    return len(found), len(read)


def test_weights_made_to_single_a_row_out_see_bundles(site_in) -> None:
    rows, read = rows_read_by_weights(site_in())
    assert rows == 0
    assert read > 10, "they respond to made-up rows"


def test_made_up_rows_of_a_bundle_have_the_same_figures(site_in) -> None:
    table = site_in().train_rows(COLUMNS, PLAN.registry)
    for model in range(len(COLUMNS)):
        answered = np.isfinite(table.quality[:, model])
        figures = np.stack([table.quality[answered, model], table.cost_usd[answered, model]])
        _, rows = np.unique(figures, axis=1, return_counts=True)
        assert rows.min() >= LEAST_ROWS


def test_weights_made_to_single_a_row_out_read_a_site_that_trusts(site_in) -> None:
    trusting = SitePolicy(least_rows=LEAST_ROWS, trusts_coordinator=True)
    rows, _ = rows_read_by_weights(site_in(policy=trusting))
    assert rows > 10


def test_no_vector_of_the_log_is_in_what_is_told_of(site_in) -> None:
    table = site_in().train_rows(COLUMNS, PLAN.registry)
    vectors = made_up(300, seed=300).embeddings
    distance = np.linalg.norm(table.embeddings[:, None] - vectors[None], axis=2)
    assert distance.min() > 0.1


def test_steps_of_a_few_questions_are_no_more_than_so_many_rows(site_in, tmp_path) -> None:
    made = made_up(240, seed=1)
    shapes = np.random.default_rng(0).random((240, WIDTH))
    whole = np.hstack([np.tile(made.embeddings[:12], (20, 1)), shapes]).astype(np.float32)
    engine = create_database_engine(f"sqlite:///{tmp_path / 'steps.db'}")
    with_schema(engine)
    encoder_id = RequestEncoder.of(EncoderIdentity()).id
    steps = (
        replace(row, encoder_id=encoder_id) if isinstance(row, TurnRecord) else row
        for row in records(replace(made, embeddings=whole))
    )
    asyncio.run(fill(engine, tmp_path, steps))
    bundles = BundleFile(tmp_path / "steps.npz", EncoderIdentity().id)
    site = site_in(log=TeamsRows(engine, None), bundles=bundles)
    for split_rows in (site.train_rows, site.held_out_rows):
        assert len(split_rows(COLUMNS, PLAN.registry).quality) == 0
    engine.dispose()


def test_private_models_are_not_told_of_where_a_plan_names_them(site_in) -> None:
    site = site_in(private_models=frozenset({"coder"}))
    count = Coordinator(site).told("query.rows")["count"]
    assert count[COLUMNS.index("coder")] == 0
    assert count[COLUMNS.index("cheap")] > LEAST_ROWS


def test_routers_sent_to_be_judged_are_limited_over_restarts(site_in) -> None:
    def verdict(seed: int, **changes: Any) -> Message:
        router = router_artifact(seed, encoder=EncoderIdentity(dimension=DIMENSION))
        coordinator = Coordinator(site_in(**changes))
        return coordinator.ask("query.publish", PLAN, artifact=np.frombuffer(router, np.uint8))

    assert all(read_verdict(verdict(seed)).version for seed in range(3))
    assert read_verdict(verdict(0)).version, "the same router is judged once"
    assert "federation.node.routers_per_day" in (read_refusal(verdict(3)) or "")
    tomorrow = NOON + timedelta(days=1, seconds=1)
    assert read_verdict(verdict(3, clock=lambda: tomorrow)).version

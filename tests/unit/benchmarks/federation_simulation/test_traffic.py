"""What leaves a site is what docs/explanation/what-is-shared.md says, and nothing else."""

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.federation_simulation.in_process import Exchanged
from benchmarks.federation_simulation.simulation import RowsSite, align, simulate
from federation.coordinator.growing import Parent
from federation.learning import growth
from federation.learning.guard import LOCAL_CLUSTERS
from federation.privacy.settings import NoiseSettings
from federation.protocol.joining import CLIENTS_JOIN, MODELS_JOIN
from federation.protocol.protocol import ANSWER, ARRAYS, PLAN, from_record
from federation.site import Verdict
from router_models.artifacts.artifact import load
from router_models.artifacts.registry import ModelRegistry
from tests.fakes.evaluations import DIMENSION, MODELS
from tests.fakes.sites import ENCODER, plan_of, site_of

pytestmark = pytest.mark.xdist_group("traffic")  # a session is recorded once
PAGE = Path(__file__).resolve().parents[4] / "docs" / "explanation" / "what-is-shared.md"
NOISE = NoiseSettings(1.0, dict.fromkeys(MODELS, 0.01), longest_vector=6.0)
SECRET = "the query's own words"
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "masked": {"secure_sum": True, "quorum": 3},
    "noisy": {"noise": NOISE, "has_guard": False},
    "masked and noisy": {"noise": NOISE, "has_guard": False, "secure_sum": True, "quorum": 3},
}
PLANS = {
    f"{kind} {name}": plan_of(kind, **options)
    for name, options in OPTIONS.items()
    for kind in ("kmeans", "mlp", "ridge")
    if not (kind == "ridge" and "noise" in options)
}

JOINING = {
    f"{joining} joining {name}": (joining, plan)
    for joining in (MODELS_JOIN, CLIENTS_JOIN)
    for name, plan in PLANS.items()
    if plan.kind == "kmeans" or (plan.kind == "mlp" and plan.noise is None)
}


def documented() -> dict[str, dict[str, tuple[str, ...]]]:
    """Arrays of each message by the tables: name to names of lengths."""
    lines = re.findall(r"^\| `([a-z_.]+)` \|[^|]*\|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    return {
        message: {
            name: tuple(length for length in shape.split(", ") if length)
            for name, shape in re.findall(r"`([\w.]+)` \(([^)]*)\)", cells)
        }
        for message, cells in lines
    }


def sites():
    return [
        replace(site, train=replace(site.train, tasks=(SECRET,) * len(site.train.tasks)))
        for site in (site_of(index, 60 + 20 * index) for index in range(4))
    ]


@cache
def begun(kind, joining):
    """A router that something can join."""
    few = [replace(s, train=align(s.train, MODELS[:3], ModelRegistry())) for s in sites()]
    there = few if joining == MODELS_JOIN else sites()[:1]
    result = simulate(there, replace(PLANS[f"{kind} plain"], quorum=1))
    return Parent(load(result.artifact, ENCODER), result.progress.sites)


@cache
def record(name):
    """All messages of one session; new heads take fewer rounds than they should."""
    messages: list[Exchanged] = []
    if name in PLANS:
        simulate(sites(), PLANS[name], traffic=messages)
        return messages
    joining, plan = JOINING[name]
    parent = begun(plan.kind, joining)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growth, "NEW_MODEL_ROUNDS", 3)
        simulate(sites(), parent.plan(plan, (joining,)), traffic=messages, start=parent.progress())
    return messages


@pytest.fixture(scope="module", params=[*PLANS, *JOINING])
def traffic(request):
    return record(request.param)


def arrays_in(traffic):
    """Message type and payload of every reply with arrays."""
    for message in traffic:
        if ARRAYS in message.reply.content.array_records:
            payload = from_record(message.reply.content.array_records[ARRAYS])
            yield message.instruction.metadata.message_type, payload


def axis_lengths(traffic):
    """How long each named length is in this session; None for any up to a limit."""
    sent = [m.instruction.content.array_records[ARRAYS] for m in traffic]
    weights = DIMENSION + 1
    n_models = len(
        json.loads(traffic[-1].instruction.content.config_records[PLAN]["plan"])["columns"]
    )
    known = {
        "1": 1,
        "256": 256,
        "d": DIMENSION,
        "M": n_models,
        "2M": 2 * n_models,
        "K": 4,
        "h": 8,
        "W": weights,
        "P": weights * (weights + 1) // 2,
        "160": 160,
    }
    found = [
        len(record["guard.centroids"].numpy()) for record in sent if "guard.centroids" in record
    ]
    return {**known, "G": found[0] if found else 0}


def fits(name: str, length: int, known) -> bool:
    return length <= LOCAL_CLUSTERS if name == "L" else length == known[name]


def test_every_message_holds_the_documented_arrays_and_no_others(traffic) -> None:
    tables: dict[str, dict[str, tuple[str, ...]]] = {
        **documented(),
        "query.keys": {"key": ("160",)},
    }
    known = axis_lengths(traffic)
    for message, payload in arrays_in(traffic):
        assert set(payload) == set(tables[message])
        for name, array in payload.items():
            names = tables[message][name]
            assert len(array.shape) == len(names)
            assert all(map(fits, names, array.shape, [known] * len(names)))


def test_every_reply_is_arrays_or_a_short_answer_about_the_site(traffic) -> None:
    for message in traffic:
        records = set(message.reply.content)
        assert records in ({ARRAYS}, {ANSWER})
        answer = message.reply.content.config_records.get(ANSWER, {"json": "{}"})
        assert set(json.loads(answer["json"])) <= {
            *("name", "encoder_id", "encoder_sha256", "dimension", "schema_version", "models"),
            *("rows", "outcome", "version", "reason", "figures"),
        }


def test_no_word_no_vector_and_no_cost_of_any_query_is_in_the_bytes(traffic) -> None:
    replies = b"".join(
        array.data
        for message in traffic
        for record in message.reply.content.array_records.values()
        for array in record.values()
    ) + b"".join(str(dict(m.reply.content.config_records)).encode() for m in traffic)
    assert SECRET.encode() not in replies
    for site in sites():
        for rows in (site.train, site.held_out):
            unit = rows.embeddings / np.linalg.norm(rows.embeddings, axis=1, keepdims=True)
            for vectors in (rows.embeddings, unit.astype(np.float32)):
                for dtype in (np.float32, np.float64):
                    assert not [v for v in vectors.astype(dtype) if v[:4].tobytes() in replies]
            costs = rows.cost_usd.astype(np.float64)
            assert not [cost for cost in costs.ravel() if cost.tobytes() in replies]


def test_no_centroid_is_the_vector_of_one_query(traffic) -> None:
    rows = np.concatenate([site.train.embeddings for site in sites()])
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for message, payload in arrays_in(traffic):
        if message.endswith("centroids"):
            assert (unit @ payload["centroids"].T).max() < 0.9999
            assert payload["counts"].min() >= 10


def test_the_tables_have_no_message_that_is_never_sent() -> None:
    sent = set()
    for name in (*PLANS, *JOINING):
        sent |= {message for message, _ in arrays_in(record(name))}
    assert set(documented()) == sent - {"query.keys"}


def test_with_noise_a_verdict_carries_no_figures() -> None:
    class Talkative(RowsSite):
        def receive(self, artifact, signature):
            return Verdict("activated", "mlp-1", "gains 0.123 on 40 rows", {"gain": 0.123})

    talkative = [Talkative(s.name, s.train, s.held_out, s.encoder, s.policy) for s in sites()]
    result = simulate(talkative, PLANS["kmeans noisy"])
    assert {verdict.outcome for verdict in result.report.verdicts.values()} == {"activated"}
    assert not any(verdict.figures for verdict in result.report.verdicts.values())
    assert not any("0.123" in verdict.reason for verdict in result.report.verdicts.values())

"""Three organisations with logs of their own, out of a slice of real evaluations.

`tests/data/organisations.md` says where the rows are from.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet
from click.testing import CliRunner
from numpy.typing import NDArray

from gateway.access.keys import ensure_first_key
from gateway.artifacts.store import ArtifactStore
from gateway.candidate_records import CandidateRecord
from gateway.commands.train import command as train_command
from gateway.evaluation_log.grades import GradeRecord
from gateway.evaluation_log.row_layout import to_row
from gateway.routing.encoders import load_encoder
from gateway.settings.config import GatewaySettings, load_settings
from gateway.startup import prepare
from gateway.storage.rows import Row, insert_rows
from gateway.types import TurnRecord, Usage
from router_models.artifacts.artifact import load
from router_models.evaluation.frontier import LAMBDAS, Judge, route, routing_gains
from router_models.types import Encoder, Evaluations, Prediction
from tests.fakes.turns import make_turn

DATA = Path(__file__).resolve().parents[1] / "data" / "organisations.parquet"
NAMES = ("acme", "borealis", "cirrus")
ANSWERS_PER_QUERY = 1
"""As gateways log them."""
DAY_S = 86_400.0
ANSWER_TOKENS = 100
"""The source tells prompt tokens alone."""
OWN_NAMES: Mapping[str, Mapping[str, str]] = {"cirrus": {"gemma-2-9b-it": "gemma2-9b"}}
"""What an organisation calls a model that the others call otherwise."""
GATEWAY = """
data_dir = "{data}"
[server]
port = 0
admin_port = 0
[embedded]
enabled = false
[routing]
artifact_poll_s = 0.2
[providers.upstream]
base_url = "{upstream}/v1"
"""
MODEL = """
[models."{name}"]
provider = "upstream"
price = {{ input_usd_per_mtok = {price}, output_usd_per_mtok = {price} }}
"""


@dataclass(frozen=True, eq=False)
class Organisation:
    """One organisation's queries, each answered by every model; it logs some of the answers.

    Attributes:
        logged: Rows of `truth` that its callers asked; the others nobody has seen.
        prices: USD per million tokens of each model.
    """

    name: str
    texts: tuple[str, ...]
    prompt_tokens: NDArray[np.int64]
    truth: Evaluations
    logged: NDArray[np.bool_]
    prices: NDArray[np.float64]

    def settings_text(self, folder: Path, upstream: str = "http://127.0.0.1:1") -> str:
        """Write its gateway's settings."""
        models = [
            MODEL.format(name=name, price=price)
            for name, price in zip(self.truth.models, self.prices, strict=True)
        ]
        return GATEWAY.format(data=folder / self.name, upstream=upstream) + "".join(models)

    def names_text(self) -> str:
        """Write which of its models the federation knows by other names."""
        own = OWN_NAMES.get(self.name, {})
        pairs = ", ".join(f'"{shared}" = ["{name}"]' for shared, name in own.items())
        return f"models = {{ {pairs} }}"

    def fill(
        self,
        settings: GatewaySettings,
        encoder: Encoder,
        seed: int,
        answers: int = ANSWERS_PER_QUERY,
    ) -> str:
        """Log graded answers of so many models, drawn at random, to each query that was asked.

        Returns:
            A key for callers of its gateway.
        """
        rng = np.random.default_rng(seed)
        rows: list[Row] = []
        for query in np.flatnonzero(self.logged):
            for column in rng.permutation(len(self.truth.models))[:answers]:
                turn = self._turn(int(query), int(column), len(rows), encoder)
                grade = GradeRecord(
                    grade_id=f"g_{turn.request_id}",
                    answer_id=turn.request_id,
                    team_id=turn.team_id,
                    grader="exact-match",
                    source="verifier",
                    score=float(self.truth.quality[query, column]),
                    comment=None,
                    created_at_unix_s=turn.started_at_unix_s,
                )
                rows += [to_row(turn), to_row(grade)]
        startup = prepare(settings)
        with startup.engine.begin() as connection:
            insert_rows(connection, rows)
        key = ensure_first_key(startup.engine)
        startup.engine.dispose()
        assert key is not None
        return key

    def _turn(self, query: int, column: int, number: int, encoder: Encoder) -> TurnRecord:
        models = self.truth.models
        candidates = tuple(
            CandidateRecord(name, None, None, None, 1 / len(models), is_eligible=True, verdict="ok")
            for name in models
        )
        return make_turn(
            number,
            request_id=f"{self.name}-{number:06d}",
            decision_id=f"dec-{self.name}-{number:06d}",
            answer_id=f"chatcmpl-{self.name}-{number:06d}",
            chosen_model=models[column],
            served_model=models[column],
            encoder_id=encoder.id,
            query_embedding=self.truth.embeddings[query],
            candidates=candidates,
            propensity=1 / len(models),
            route_reason="explored",
            router_version=None,
            usage=Usage(int(self.prompt_tokens[query]), ANSWER_TOKENS),
            cost_nusd=round(float(self.truth.cost_usd[query, column]) * 1e9),
            # Gateways forget what is older than their retention.
            started_at_unix_s=time.time() - DAY_S + number,
        )

    def train_locally(self, settings_file: Path, artifact: Path) -> str:
        """Let a router serve that `waypost train` made of its own log; returns the version."""
        arguments = ["--config", str(settings_file), "--estimator", "kmeans"]
        result = CliRunner().invoke(train_command, [*arguments, "--out", str(artifact)])
        assert result.exit_code == 0, result.output
        store = ArtifactStore(load_settings(settings_file, {}).artifact_dir)
        version = store.put(artifact.read_bytes()).version
        store.activate(version)
        return version

    def merit(self, artifact: bytes, encoder: Encoder) -> "Merit":
        """Measure a router on the queries that nobody has seen."""
        router = load(artifact, encoder)
        rows = np.flatnonzero(~self.logged)
        truth = Evaluations(
            self.truth.embeddings[rows],
            self.truth.quality[rows],
            self.truth.cost_usd[rows],
            self.truth.models,
        )
        known = [router.column(name) for name in truth.models]
        columns = [column for column in known if column is not None]
        assert columns == known, f"{router.version} does not know every model of {self.name}"
        made = router.serving_estimator.predict(truth.embeddings)
        prediction = Prediction(made.quality[:, columns], made.cost_usd[:, columns])
        judge = Judge.of(truth)
        return Merit(
            gain=float(routing_gains(prediction, truth, LAMBDAS).mean()),
            area=judge.figures(route(prediction, truth)).common_auc,
        )


@dataclass(frozen=True)
class Merit:
    """How well a router routes.

    Attributes:
        gain: Share of the oracle's gain over the best single model that it keeps.
        area: Under accuracy over cost.
    """

    gain: float
    area: float


@cache
def encoder() -> Encoder:
    """The encoder that every organisation runs."""
    return load_encoder("static")


@cache
def organisations() -> tuple[Organisation, ...]:
    """Read the slice; models are named as each organisation names them."""
    table = pyarrow.parquet.read_table(DATA)
    metadata = table.schema.metadata or {}
    models = metadata[b"models"].decode().split(",")
    prices = np.array([float(price) for price in metadata[b"usd_per_mtok"].decode().split(",")])
    columns = table.to_pydict()
    owner, texts = np.array(columns["organisation"]), np.array(columns["text"], object)
    tokens = np.array(columns["prompt_tokens"], np.int64)
    quality = np.array(columns["scores"], np.float32)
    cost = ((tokens + ANSWER_TOKENS)[:, None] * prices / 1e6).astype(np.float32)
    logged = np.array(columns["is_logged"])
    found = []
    for index, name in enumerate(NAMES):
        rows = np.flatnonzero(owner == index)
        own = tuple(OWN_NAMES.get(name, {}).get(model, model) for model in models)
        # Rounded, as a gateway rounds them: rows are split by a hash of their bytes.
        embeddings = encoder().encode(list(texts[rows])).astype(np.float16).astype(np.float32)
        truth = Evaluations(embeddings, quality[rows], cost[rows], own)
        found.append(
            Organisation(name, tuple(texts[rows]), tokens[rows], truth, logged[rows], prices)
        )
    return tuple(found)

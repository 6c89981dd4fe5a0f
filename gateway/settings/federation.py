"""The settings of learning with other organisations."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.settings.base import Settings
from gateway.settings.federation_node import (
    Delta,
    Device,
    MetricsHost,
    MetricsPort,
    NodeSettings,
)


class TuningSettings(Settings):
    """The reasoning model that the nodes tune together.

    `waypost federation train --task reasoner` starts it. `quorum`, `largest_share` and `seed` are
    those of the coordinator, and a site's adapters must fit into its `max_body_bytes`.
    """

    model: Annotated[
        str | None,
        Field(
            description="Base model: a folder, a GGUF file or a Hugging Face id. By default no "
            "model is tuned."
        ),
    ] = None
    public_prompts: Annotated[
        Path | None,
        Field(
            description="JSON Lines file of prompts that all sites answer and whose answers they "
            "exchange. Required unless `training` has `public = false`."
        ),
    ] = None
    training: Annotated[
        dict[str, Any],
        Field(
            description="Hyperparameters: fields of the class `ReasonerSettings` in "
            "`federation.reasoner.settings`, such as `{learning_rate = 2e-5}`. Those left out "
            "keep their defaults."
        ),
    ] = {}
    rounds: Annotated[
        int,
        Field(
            gt=0,
            description="Number of times that the sites' adapters are averaged. Time and traffic "
            "grow with it.",
        ),
    ] = 10
    phase_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds to wait for the nodes in each phase of a round. The phase goes on "
            "without nodes that take longer, and fails if fewer than `quorum` are left.",
        ),
    ] = 3600.0
    device: Device = None


class CoordinatorSettings(Settings):
    """The process that a federation's nodes call, and what it has them train."""

    host: Annotated[
        str,
        Field(
            description="Address that nodes connect to. The default accepts connections from this "
            'machine only; "0.0.0.0" accepts them on every IPv4 interface.'
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Field(ge=0, le=65535, description="TCP port for nodes, with TLS. 0 picks a free port."),
    ] = 9443
    certificates: Annotated[
        Path | None,
        Field(
            description="Folder of the coordinator's certificate and the nodes' public keys, made "
            "by `waypost federation certificates`. By default `federation/certificates` in the "
            "data directory."
        ),
    ] = None
    every_hours: Annotated[
        float | None,
        Field(
            gt=0,
            description="Hours between the starts of two router trainings. By default trainings "
            "start only by `waypost federation train`.",
        ),
    ] = None
    kind: Annotated[
        Literal["kmeans", "mlp", "ridge"],
        Field(
            description="Kind of router to train. `kmeans` takes 6 rounds and `ridge` 5; `mlp` "
            "takes about 80, and can predict better with many rows."
        ),
    ] = "kmeans"
    training: Annotated[
        dict[str, Any],
        Field(
            description="Hyperparameters of that kind: fields of its class in "
            "`federation.learning.settings`, such as `{clusters = 32}`. Those left out keep their "
            "defaults."
        ),
    ] = {}
    models: Annotated[
        dict[str, list[str]],
        Field(
            description="The federation's name of each model, with the other names that sites use "
            "for it. Rows under all these names count for one model."
        ),
    ] = {}
    knows_all_models: Annotated[
        bool,
        Field(
            description="Refuse sites that have rows of a model not in `models`. By default such "
            "a model becomes part of the router."
        ),
    ] = False
    least_rows: Annotated[
        int,
        Field(
            gt=0,
            description="Fewest rows that a statistic sent by a site may stand for; smaller groups "
            "are merged or left out. A larger number hides single queries better and costs "
            "precision. Sites that demand more refuse to take part.",
        ),
    ] = 10
    quorum: Annotated[
        int,
        Field(
            gt=0,
            description="Fewest sites whose answers must be accepted in each round. With fewer the "
            "training fails. `secure_sum` needs at least 3.",
        ),
    ] = 2
    round_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds to wait for the nodes' answers in each round, and for a quorum of "
            "nodes to connect. The round goes on without nodes that take longer.",
        ),
    ] = 600.0
    rule: Annotated[
        Literal["mean", "median", "trimmed_mean"],
        Field(
            description="How the weights of an `mlp` router are combined. `median` and "
            "`trimmed_mean` limit what a hostile site can do, and give every site the same weight."
        ),
    ] = "mean"
    norm_bound: Annotated[
        float | None,
        Field(
            gt=0,
            description="Longest update of an `mlp` router's weights, as a multiple of the median "
            "site's; longer ones are scaled down. A smaller bound limits hostile sites more, and "
            "unusual ones too. By default updates are not scaled.",
        ),
    ] = None
    largest_share: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Largest share that one site has in a sum or mean, from 0 to 1, however "
            "many rows it claims. It takes effect with three sites or more.",
        ),
    ] = 0.5
    dearest_usd: Annotated[
        float,
        Field(
            gt=0,
            description="Highest plausible cost of one call in USD. A site's answer that implies "
            "more is rejected.",
        ),
    ] = 100.0
    secure_sum: Annotated[
        bool,
        Field(
            description="Have sites mask their sums, so that the coordinator can read the total of "
            "at least three sites only. Excludes `norm_bound` and a `rule` other than `mean`."
        ),
    ] = False
    epsilon: Annotated[
        float | None,
        Field(
            gt=0,
            description="Differential privacy: sites add as much noise as keeps the cost of one "
            "training, per site, within this epsilon at `delta`. A smaller value hides more and "
            "costs quality. By default no noise is added.",
        ),
    ] = None
    delta: Delta = 1e-5
    dearest_usd_by_model: Annotated[
        dict[str, float],
        Field(
            description="Highest cost of one call in USD, by model; dearer calls count as this. "
            "Required for every model with `epsilon`. Take it from list prices: a figure from a "
            "log would reveal something of it."
        ),
    ] = {}
    seed: Annotated[
        int,
        Field(
            description="Seed of all random numbers of a training. The same seed and the same "
            "answers of the sites give the same router."
        ),
    ] = 0
    max_body_bytes: Annotated[
        int,
        Field(
            gt=0,
            description="Largest body of one call of a node, in bytes; a larger one is refused. "
            "Of one node the gate holds 3 times as much at once, of all nodes 8 times; adapters "
            "of a reasoning model may need more than the default.",
        ),
    ] = 64 * 1024 * 1024
    metrics_host: MetricsHost = "127.0.0.1"
    metrics_port: MetricsPort = None
    reasoner: TuningSettings = TuningSettings()


class FederationSettings(Settings):
    """Learning with other organisations without showing them queries."""

    coordinator: CoordinatorSettings = CoordinatorSettings()
    node: NodeSettings = NodeSettings()

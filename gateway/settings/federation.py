"""The settings of learning with other organisations."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.settings.base import Settings

MetricsHost = Annotated[
    str,
    Field(
        description="Address that `GET /metrics` listens on, if `metrics_port` is set. It needs no "
        "token, so expose it to operators only."
    ),
]
MetricsPort = Annotated[
    int | None,
    Field(
        ge=0,
        le=65535,
        description="TCP port of `GET /metrics`. 0 picks a free port. By default there is none.",
    ),
]
Device = Annotated[
    str | None,
    Field(
        description='PyTorch device to compute on, such as "cuda". By default a GPU where there is '
        "one, else the CPU."
    ),
]
Delta = Annotated[
    float,
    Field(
        gt=0,
        lt=1,
        description="Probability with which the privacy promised by `epsilon` may not hold. Keep "
        "it below one over the number of a site's rows. Unused without `epsilon`.",
    ),
]


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


class SiteTuningSettings(Settings):
    """This site's part in tuning a reasoning model.

    It trains on prompts of the evaluation log, of teams that opted in, and on those of a file.
    """

    model: Annotated[
        str | None,
        Field(
            description="This site's copy of the coordinator's base model: a folder, a GGUF file "
            "or a Hugging Face id. Its weights must be the same. By default this site takes no "
            "part in tuning."
        ),
    ] = None
    prompts: Annotated[
        Path | None,
        Field(
            description="JSON Lines file of private prompts, used beside those of the log. They "
            "never leave this site."
        ),
    ] = None
    least_prompts: Annotated[
        int,
        Field(
            gt=0,
            description="Fewest private prompts that adapters may be trained on. With fewer this "
            "site takes no part. A larger number hides single prompts better.",
        ),
    ] = 32
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


class NodeSettings(Settings):
    """How this gateway takes part in a federation."""

    name: Annotated[
        str | None,
        Field(
            description="Name of this organisation in the federation. Required for "
            "`waypost federation join`; no two sites may have the same."
        ),
    ] = None
    coordinator: Annotated[
        str | None,
        Field(
            description="Address of the coordinator as `host:port`. Required for "
            "`waypost federation join`."
        ),
    ] = None
    authority: Annotated[
        Path | None,
        Field(
            description="File `ca.crt` from the coordinator's operator, by which this node "
            "recognises the coordinator. Required for `waypost federation join`."
        ),
    ] = None
    private_key: Annotated[
        Path | None,
        Field(
            description="File of this node's private key, by which the coordinator recognises this "
            "node. Required for `waypost federation join`."
        ),
    ] = None
    poll_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds between two calls to the coordinator to ask for work. Every round "
            "of a training waits up to this long for each node.",
        ),
    ] = 3.0
    models: Annotated[
        dict[str, list[str]],
        Field(
            description="The federation's name of each model, with this gateway's names for it. "
            "Needed only where they differ."
        ),
    ] = {}
    private_models: Annotated[
        list[str],
        Field(
            description="This gateway's names of models that the federation must not learn of. "
            "Neither their names nor their rows leave this site."
        ),
    ] = []
    teams: Annotated[
        list[str] | None,
        Field(
            description="Names of the teams whose requests are learned from. By default all teams."
        ),
    ] = None
    least_rows: Annotated[
        int,
        Field(
            gt=0,
            description="Fewest rows that a statistic sent from this site may stand for. Trainings "
            "whose coordinator allows fewer are refused.",
        ),
    ] = 10
    needs_secure_sum: Annotated[
        bool,
        Field(
            description="Refuse trainings in which this site's sums would leave unmasked, that is "
            "without `secure_sum` at the coordinator."
        ),
    ] = False
    epsilon: Annotated[
        float | None,
        Field(
            gt=0,
            description="Differential privacy: the most that all trainings together may cost this "
            "site, at `delta`. Trainings without noise are refused, and once this is spent the "
            "site takes part in no more. By default there is no limit.",
        ),
    ] = None
    delta: Delta = 1e-5
    most_rows: Annotated[
        int,
        Field(
            gt=0,
            description="Number of graded answers, the latest ones, that are learned from. More "
            "rows take more memory: 4 bytes each per dimension of the encoder.",
        ),
    ] = 200_000
    tolerance: Annotated[
        float,
        Field(
            ge=0,
            description="How much a new router may lose against the active one on this site's own "
            "held-out rows and still serve. It is a fraction: of the gain that perfect choices "
            "would bring, of utility, or of the prediction error, whichever the rows can show. 0 "
            "accepts no loss.",
        ),
    ] = 0.02
    metrics_host: MetricsHost = "127.0.0.1"
    metrics_port: MetricsPort = None
    reasoner: SiteTuningSettings = SiteTuningSettings()


class FederationSettings(Settings):
    """Learning with other organisations without showing them queries."""

    coordinator: CoordinatorSettings = CoordinatorSettings()
    node: NodeSettings = NodeSettings()

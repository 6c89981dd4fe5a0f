"""The settings of learning with other organisations."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Table(BaseModel):
    """Frozen, and a misspelt key stops the start."""

    model_config = ConfigDict(extra="forbid", frozen=True)


MetricsPort = Annotated[
    int | None,
    Field(ge=0, le=65535, description="Of `GET /metrics`; none by default, 0 picks a free one."),
]


class TuningSettings(_Table):
    """The reasoning model that the federation's nodes tune together."""

    model: Annotated[
        str | None,
        Field(description="Folder, GGUF file or Hugging Face id; none is tuned without it."),
    ] = None
    public_prompts: Annotated[
        Path | None, Field(description="JSON Lines file: prompts that all sites answer.")
    ] = None
    training: Annotated[
        dict[str, Any], Field(description="Of `federation.reasoner.settings.ReasonerSettings`.")
    ] = {}
    rounds: Annotated[int, Field(gt=0, description="Aggregations of adapters.")] = 10
    phase_timeout_s: Annotated[
        float, Field(gt=0, description="An exchange ends without nodes that take longer.")
    ] = 3600.0
    device: Annotated[
        str | None, Field(description="Such as cuda; there by default where it is.")
    ] = None


class SiteTuningSettings(_Table):
    """This site's part in tuning a reasoning model."""

    model: Annotated[
        str | None,
        Field(description="Its copy of the federation's; takes no part without it."),
    ] = None
    prompts: Annotated[
        Path | None,
        Field(description="JSON Lines file of private prompts, beside those of the log."),
    ] = None
    least_prompts: Annotated[
        int, Field(gt=0, description="No adapters made of fewer private prompts leave.")
    ] = 32
    device: Annotated[
        str | None, Field(description="Such as cuda; there by default where it is.")
    ] = None


class CoordinatorSettings(_Table):
    """The one process that a federation's nodes call, and what it has them learn."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="0 picks a free port.")] = 9443
    certificates: Annotated[
        Path | None,
        Field(description="Filled by `waypost federation certificates`; in data_dir by default."),
    ] = None
    every_hours: Annotated[
        float | None, Field(gt=0, description="Between trainings; without it, on demand alone.")
    ] = None
    kind: Literal["kmeans", "mlp", "ridge"] = "kmeans"
    training: Annotated[dict[str, Any], Field(description="Settings of that kind of router.")] = {}
    models: Annotated[
        dict[str, list[str]], Field(description="Names of models with their other names.")
    ] = {}
    knows_all_models: Annotated[
        bool, Field(description="Sites that have rows of a model not in `models` are refused.")
    ] = False
    least_rows: Annotated[int, Field(gt=0, description="Nothing made of fewer is asked for.")] = 10
    quorum: Annotated[int, Field(gt=0, description="Fewer good answers fail a round.")] = 2
    round_timeout_s: Annotated[
        float, Field(gt=0, description="A round ends without nodes that take longer.")
    ] = 600.0
    rule: Annotated[
        Literal["mean", "median", "trimmed_mean"], Field(description="How weights are combined.")
    ] = "mean"
    norm_bound: Annotated[
        float | None,
        Field(gt=0, description="Updates are shortened to so many times the median one."),
    ] = None
    largest_share: Annotated[
        float, Field(gt=0, le=1, description="No site counts for more of a sum or mean.")
    ] = 0.5
    dearest_usd: Annotated[
        float, Field(gt=0, description="An evaluation that says it cost more is rejected.")
    ] = 100.0
    secure_sum: Annotated[
        bool, Field(description="Sums leave sites masked; excludes robust rules and norm_bound.")
    ] = False
    epsilon: Annotated[
        float | None,
        Field(gt=0, description="Noise so that a training costs each site no more privacy."),
    ] = None
    delta: Annotated[float, Field(gt=0, lt=1, description="Of epsilon.")] = 1e-5
    dearest_usd_by_model: Annotated[
        dict[str, float],
        Field(description="For noise: calls count as no dearer. From list prices, not from a log."),
    ] = {}
    seed: int = 0
    max_body_bytes: Annotated[int, Field(gt=0, description="Of one call of a node.")] = (
        64 * 1024 * 1024
    )
    metrics_host: str = "127.0.0.1"
    metrics_port: MetricsPort = None
    reasoner: TuningSettings = TuningSettings()


class NodeSettings(_Table):
    """How this gateway takes part in a federation."""

    name: Annotated[str | None, Field(description="Of the organisation.")] = None
    coordinator: Annotated[str | None, Field(description="Its host:port.")] = None
    authority: Annotated[Path | None, Field(description="The coordinator's ca.crt.")] = None
    private_key: Annotated[Path | None, Field(description="This node's own key.")] = None
    poll_s: Annotated[
        float, Field(gt=0, description="Between two looks for something to answer.")
    ] = 3.0
    models: Annotated[
        dict[str, list[str]], Field(description="The federation's names with this gateway's.")
    ] = {}
    private_models: Annotated[
        list[str], Field(description="Models that nobody else has; never mentioned.")
    ] = []
    teams: Annotated[
        list[str] | None, Field(description="Whose turns are learned from; all by default.")
    ] = None
    least_rows: Annotated[int, Field(gt=0, description="Nothing made of fewer leaves.")] = 10
    needs_secure_sum: Annotated[
        bool, Field(description="Nothing that adds up leaves unmasked.")
    ] = False
    epsilon: Annotated[
        float | None,
        Field(gt=0, description="Nothing leaves without noise, and all of it costs no more."),
    ] = None
    delta: Annotated[float, Field(gt=0, lt=1, description="Of epsilon.")] = 1e-5
    most_rows: Annotated[int, Field(gt=0, description="The latest so many are read.")] = 200_000
    tolerance: Annotated[
        float, Field(ge=0, description="What a new router may lose here and still serve.")
    ] = 0.02
    metrics_host: str = "127.0.0.1"
    metrics_port: MetricsPort = None
    reasoner: SiteTuningSettings = SiteTuningSettings()


class FederationSettings(_Table):
    """Learning with other organisations without showing them queries."""

    coordinator: CoordinatorSettings = CoordinatorSettings()
    node: NodeSettings = NodeSettings()

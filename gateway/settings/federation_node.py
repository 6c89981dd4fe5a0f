"""The settings of a site that learns with others, and those that coordinators have too."""

from pathlib import Path
from typing import Annotated

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
            description="Fewest rows that a statistic sent from this site may stand for. Rows are "
            "told of in bundles of at least so many, and trainings whose coordinator allows fewer "
            "are refused. A larger number hides single queries better and costs quality.",
        ),
    ] = 10
    trusts_coordinator: Annotated[
        bool,
        Field(
            description="Answer the coordinator's questions from rows instead of bundles of "
            "`least_rows` rows. Routers get better, most of all with a few hundred rows, but a "
            "hostile coordinator can then read single rows out of many answers. Unused with "
            "`epsilon`."
        ),
    ] = False
    needs_secure_sum: Annotated[
        bool,
        Field(
            description="Refuse trainings in which this site's sums would leave unmasked, that is "
            "without `secure_sum` at the coordinator."
        ),
    ] = False
    members: Annotated[
        Path | None,
        Field(
            description="Folder with the public key (`.pub`) of every other organisation that this "
            "site adds up its sums with, received from them and not from the coordinator. A secure "
            "sum with anybody else, or of fewer than three sites with this one, is refused. "
            "Required by `needs_secure_sum`. By default the coordinator is trusted to name the "
            "members."
        ),
    ] = None
    least_noise: Annotated[
        float,
        Field(
            ge=0,
            description="Least noise multiplier: the standard deviation of the noise, divided by "
            "the most that one query can change. Trainings with less noise are refused; those "
            "without any noise are refused only if `epsilon` is set.",
        ),
    ] = 0.1
    routers_per_day: Annotated[
        int,
        Field(
            gt=0,
            description="Most new routers that this site judges in 24 hours. Each verdict tells "
            "the coordinator means over this site's held-out rows; a larger number tells it more.",
        ),
    ] = 24
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

"""Frozen settings, read once; the only module that reads the environment and the TOML file."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from gateway.settings.federation import FederationSettings
from gateway.settings.turn_budgets import TurnBudgetSettings


class ConfigurationError(Exception):
    """The settings cannot be used; the message names the file, the key and the remedy."""


class Settings(BaseModel):
    """Base of every settings table: frozen, and a misspelt key stops the start."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(Settings):
    """Where callers and operators reach the gateway."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    admin_host: str = "127.0.0.1"
    admin_port: Annotated[int, Field(ge=0, le=65535, description="0 picks a free port.")] = 8081
    admin_token: Annotated[
        SecretStr | None, Field(description="Made at the first start and kept by default.")
    ] = None
    max_body_bytes: Annotated[int, Field(gt=0)] = 20 * 1024 * 1024
    request_deadline_s: Annotated[
        float, Field(gt=0, description="All attempts and fallbacks of one turn together.")
    ] = 600.0
    drain_s: Annotated[
        float,
        Field(
            ge=0, description="Told to stop, /ready says no but requests are still taken this long."
        ),
    ] = 0.0
    shutdown_grace_s: Annotated[
        float, Field(ge=0, description="After that, for answers that still run.")
    ] = 30.0
    workers: Annotated[
        int, Field(ge=1, le=64, description="Processes; more than one need Redis for budgets.")
    ] = 1
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Annotated[
        Literal["text", "json"],
        Field(description="json: an object per line, and a line for every request."),
    ] = "text"


class DatabaseSettings(Settings):
    """Where keys and the evaluation log are kept."""

    url: Annotated[
        str | None, Field(description="SQLAlchemy URL; SQLite in the data directory by default.")
    ] = None
    wait_s: Annotated[
        float, Field(ge=0, description="A start waits this long for a database that is down.")
    ] = 0.0


class EvaluationLogSettings(Settings):
    """How turns are written, off the request path."""

    batch_rows: Annotated[int, Field(gt=0)] = 200
    flush_interval_s: Annotated[float, Field(gt=0)] = 0.5
    queue_rows: Annotated[int, Field(gt=0, description="Rows in memory before drops.")] = 10_000
    spool_max_bytes: Annotated[int, Field(gt=0)] = 256 * 1024 * 1024
    retention_days: Annotated[int | None, Field(gt=0)] = 90


class KeySettings(Settings):
    """How long a revoked key may still be honoured."""

    staleness_s: Annotated[float, Field(gt=0)] = 2.0
    outage_grace_s: Annotated[
        float, Field(ge=0, description="Known keys stay valid this long without a database.")
    ] = 300.0


class PriceSettings(Settings):
    """USD per million tokens; overrides the catalogue."""

    input_usd_per_mtok: Annotated[float, Field(ge=0)]
    output_usd_per_mtok: Annotated[float, Field(ge=0)]
    cached_input_usd_per_mtok: Annotated[float | None, Field(ge=0)] = None
    cache_write_usd_per_mtok: Annotated[float | None, Field(ge=0)] = None


class CapabilitySettings(Settings):
    """What the model can take, where the built-in knowledge is wrong or missing."""

    tools: bool | None = None
    vision: bool | None = None
    json_schema: bool | None = None
    context_tokens: Annotated[int | None, Field(gt=0)] = None
    max_output_tokens: Annotated[int | None, Field(gt=0)] = None
    reasoning: Annotated[
        Literal["none", "effort", "thinking"] | None,
        Field(description="Takes `reasoning_effort`, or Anthropic's `thinking` with a budget."),
    ] = None


class ProviderSettings(Settings):
    """One upstream that hosts models."""

    kind: Literal["openai", "azure", "anthropic"] = "openai"
    base_url: Annotated[str, Field(pattern=r"^https?://")]
    api_key: SecretStr | None = None
    api_version: Annotated[str | None, Field(description="Azure's api-version.")] = None
    catalogue: Annotated[
        str | None, Field(description="Provider id in the price catalogue; the name by default.")
    ] = None
    headers: dict[str, SecretStr] = {}
    connect_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    first_byte_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    idle_timeout_s: Annotated[float, Field(gt=0, description="Between two stream chunks.")] = 60.0
    deadline_s: Annotated[float, Field(gt=0, description="All attempts together.")] = 600.0
    max_retries: Annotated[int, Field(ge=0, le=10)] = 2
    max_concurrency: Annotated[int, Field(gt=0)] = 1000
    breaker_failures: Annotated[int, Field(gt=0, description="In a row, to open.")] = 5
    breaker_cooldown_s: Annotated[float, Field(gt=0)] = 10.0


class ModelSettings(Settings):
    """One hosted model."""

    provider: str
    upstream_name: Annotated[str | None, Field(description="Defaults to the table's name.")] = None
    price: PriceSettings | None = None
    capabilities: CapabilitySettings = CapabilitySettings()
    system_prompt: str | None = None
    request_defaults: dict[str, Any] = {}


class ExplorationSettings(Settings):
    """How often the router tries a model it does not believe best."""

    kind: Literal["off", "epsilon", "thompson"] = "off"
    epsilon: Annotated[float, Field(gt=0, le=1)] = 0.05


class ProfileSettings(Settings):
    """A named operating point: callers use its name as a model."""

    willingness_to_pay_usd: Annotated[float, Field(gt=0, description="USD per unit of quality.")]
    models: Annotated[list[str] | None, Field(description="All models by default.")] = None
    turn_budget_tokens: Annotated[
        int | None, Field(gt=0, description="Instead of turn_budgets.tokens_per_conversation.")
    ] = None


class RoutingSettings(Settings):
    """How `auto` chooses."""

    default_model: Annotated[
        str | None, Field(description="Serves when the router is missing or fails.")
    ] = None
    default_profile: str = "balanced"
    encoder: Annotated[
        Literal["static", "minilm", "auto"],
        Field(description="`auto` is minilm where onnxruntime is installed."),
    ] = "static"
    embedding_cache_entries: Annotated[int, Field(ge=0)] = 10_000
    artifact_poll_s: Annotated[float, Field(gt=0)] = 1.0
    exploration: ExplorationSettings = ExplorationSettings()


class BudgetSettings(Settings):
    """Where counters live, and what happens when that place is down."""

    store: Annotated[
        Literal["memory", "redis"],
        Field(description="memory: one gateway process; redis: any number."),
    ] = "memory"
    redis_url: Annotated[
        SecretStr | None,
        Field(description="Such as redis://:password@host:6379/0; redis+cluster:// for a cluster."),
    ] = None
    when_store_is_down: Annotated[
        Literal["closed", "open"],
        Field(description="closed: budgeted callers get 503; open: they are served and counted."),
    ] = "closed"
    store_timeout_s: Annotated[float, Field(gt=0, description="One round trip.")] = 1.0
    lease_s: Annotated[
        float, Field(ge=1, description="A hold nobody renews is charged in full after this.")
    ] = 60.0
    definitions_poll_s: Annotated[
        float, Field(gt=0, le=1.5, description="How often changed budgets are looked for.")
    ] = 1.0
    conversation_from_prefix: Annotated[
        bool, Field(description="Recognise conversations by how they open.")
    ] = False
    min_completion_tokens: Annotated[
        int, Field(gt=0, description="Less room than this for an answer is refused.")
    ] = 16
    default_max_completion_tokens: Annotated[
        int, Field(gt=0, description="Held where neither caller nor model sets a limit.")
    ] = 16_384

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.store == "redis" and self.redis_url is None:
            raise ValueError('store = "redis" needs redis_url')
        if self.default_max_completion_tokens < self.min_completion_tokens:
            raise ValueError("default_max_completion_tokens is below min_completion_tokens")
        return self


class TracingSettings(Settings):
    """Where traces of turns are sent."""

    endpoint: Annotated[
        str | None,
        Field(
            pattern=r"^https?://",
            description="Of a collector's OTLP over HTTP, such as http://localhost:4318/v1/traces.",
        ),
    ] = None
    headers: dict[str, SecretStr] = {}
    service_name: str = "waypost"
    sampled_share: Annotated[
        float, Field(ge=0, le=1, description="Of turns whose caller does not say.")
    ] = 1.0
    content: Annotated[
        bool, Field(description="Prompts too, of teams that keep the text of their queries.")
    ] = False
    timeout_s: Annotated[float, Field(gt=0, description="One batch.")] = 10.0


class EmbeddedSettings(Settings):
    """The pool of small models that runs on this machine."""

    enabled: Annotated[
        bool | None, Field(description="By default on when weights and xllamacpp are installed.")
    ] = None
    weights: Annotated[Path | None, Field(description="A GGUF file; found by default.")] = None
    threads: Annotated[int, Field(gt=0)] = 2
    parallel: Annotated[int, Field(gt=0)] = 4
    context_tokens: Annotated[int, Field(gt=0)] = 8192


DEFAULT_PROFILES = {
    "economy": ProfileSettings(willingness_to_pay_usd=0.001),
    "balanced": ProfileSettings(willingness_to_pay_usd=0.02),
    "quality": ProfileSettings(willingness_to_pay_usd=1.0),
}


class GatewaySettings(Settings):
    """Everything the gateway needs to know before it starts."""

    data_dir: Path
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    evaluation_log: EvaluationLogSettings = EvaluationLogSettings()
    keys: KeySettings = KeySettings()
    routing: RoutingSettings = RoutingSettings()
    budgets: BudgetSettings = BudgetSettings()
    turn_budgets: TurnBudgetSettings = TurnBudgetSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    tracing: TracingSettings = TracingSettings()
    federation: FederationSettings = FederationSettings()
    profiles: dict[str, ProfileSettings] = {}
    providers: dict[str, ProviderSettings] = {}
    models: dict[str, ModelSettings] = {}

    @model_validator(mode="after")
    def _names_resolve(self) -> Self:
        for name, model in self.models.items():
            if model.provider not in self.providers:
                raise ValueError(f"models.{name}: no [providers.{model.provider}] table")
        if self.routing.default_profile not in self.all_profiles:
            raise ValueError(
                f"routing.default_profile: no profile {self.routing.default_profile!r}"
            )
        taken = sorted(({"auto"} | set(self.all_profiles)) & set(self.models))
        if taken:
            raise ValueError(f"models.{taken[0]}: the name belongs to a routing profile")
        return self

    @property
    def all_profiles(self) -> dict[str, ProfileSettings]:
        """The built-in profiles, overridden by the file's."""
        return DEFAULT_PROFILES | self.profiles

    @property
    def database_url(self) -> str:
        """The database's SQLAlchemy URL."""
        return self.database.url or f"sqlite:///{self.data_dir / 'waypost.db'}"

    @property
    def artifact_dir(self) -> Path:
        """Where router artefacts and the name of the active one are kept."""
        return self.data_dir / "routers"

    @property
    def federation_dir(self) -> Path:
        """Where a coordinator or node keeps keys, sessions and logs."""
        return self.data_dir / "federation"

    @property
    def spool_dir(self) -> Path:
        """Where evaluation rows wait for a database that is down."""
        return self.data_dir / "spool"


def load_settings(file: Path | None, environ: Mapping[str, str]) -> GatewaySettings:
    """Read `file` (or ``$WAYPOST_CONFIG``, or nothing) with ``$NAME`` secrets from `environ`.

    Raises:
        ConfigurationError: The file is missing, is not TOML, has an unknown key or a bad value, or
            names a variable that is not set.
    """
    if file is None and environ.get("WAYPOST_CONFIG"):
        file = Path(environ["WAYPOST_CONFIG"])
    table: dict[str, Any] = {}
    if file is not None:
        table = _substitute(_read_toml(file), environ, str(file))
    table.setdefault("data_dir", environ.get("WAYPOST_DATA_DIR") or default_data_dir(environ))
    try:
        return GatewaySettings.model_validate(table)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, file)) from error


def default_data_dir(environ: Mapping[str, str]) -> str:
    """Return the XDG data directory of Waypost."""
    base = environ.get("XDG_DATA_HOME") or str(
        Path(environ.get("HOME") or Path.home()) / ".local" / "share"
    )
    return str(Path(base) / "waypost")


def process_environment() -> Mapping[str, str]:
    """Return the environment of this process; the one place that reads it."""
    return dict(os.environ)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: not valid TOML: {error}") from error


def _substitute(value: Any, environ: Mapping[str, str], where: str) -> Any:
    """Replace each string that is ``$NAME`` as a whole; ``$$`` stands for a dollar sign."""
    if isinstance(value, dict):
        return {k: _substitute(v, environ, f"{where}: {k}") for k, v in value.items()}
    if isinstance(value, list):
        return [_substitute(v, environ, where) for v in value]
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    if value.startswith("$$"):
        return value[1:]
    if value[1:] not in environ:
        raise ConfigurationError(f"{where}: environment variable {value[1:]} is not set")
    return environ[value[1:]]


def _explain(error: ValidationError, file: Path | None) -> str:
    """One line per problem, with the dotted key and without the secret values."""
    source = str(file) if file else "default settings"
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        key = ".".join(str(part) for part in problem["loc"]) or "settings"
        lines.append(f"{source}: {key}: {problem['msg']}")
    return "\n".join(lines)

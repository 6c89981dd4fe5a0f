"""Frozen settings, read once; the only module that reads the environment and the TOML file."""

import logging
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from gateway.settings.artifacts import ArtifactSettings
from gateway.settings.base import ConfigurationError, Settings, environment_value
from gateway.settings.budgets import BudgetSettings
from gateway.settings.data_rules import DataRuleSettings
from gateway.settings.federation import FederationSettings
from gateway.settings.grading import GradingSettings
from gateway.settings.learning import LearningSettings
from gateway.settings.passthrough import PassthroughSettings, refuse_shared
from gateway.settings.pool import (
    CapabilitySettings,
    EmbeddedSettings,
    ModelSettings,
    ProviderSettings,
)
from gateway.settings.routing import (
    DEFAULT_PROFILES,
    ExplorationSettings,
    ProfileSettings,
    RoutingSettings,
)
from gateway.settings.server import (
    DatabaseSettings,
    EvaluationLogSettings,
    KeySettings,
    ServerSettings,
    TracingSettings,
)
from gateway.settings.turn_budgets import TurnBudgetSettings

_log = logging.getLogger(__name__)
_VARIABLE = re.compile(r"(?<!\$)\$\{?([A-Za-z_][A-Za-z0-9_]*)")

__all__ = [
    "DEFAULT_PROFILES",
    "ArtifactSettings",
    "BudgetSettings",
    "CapabilitySettings",
    "ConfigurationError",
    "DataRuleSettings",
    "DatabaseSettings",
    "EmbeddedSettings",
    "EvaluationLogSettings",
    "ExplorationSettings",
    "FederationSettings",
    "GatewaySettings",
    "GradingSettings",
    "KeySettings",
    "LearningSettings",
    "ModelSettings",
    "PassthroughSettings",
    "ProfileSettings",
    "ProviderSettings",
    "RoutingSettings",
    "ServerSettings",
    "TracingSettings",
    "TurnBudgetSettings",
    "default_data_dir",
    "load_settings",
    "process_environment",
]


class GatewaySettings(Settings):
    """Everything the gateway needs to know before it starts."""

    data_dir: Annotated[
        Path,
        Field(
            description="Folder of everything that the gateway keeps on disk: the SQLite database, "
            "routers and policies, the spool, the admin token. Created if it is missing. Replicas "
            "that shall serve the same routers need the same folder."
        ),
    ]
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    evaluation_log: EvaluationLogSettings = EvaluationLogSettings()
    grading: GradingSettings = GradingSettings()
    keys: KeySettings = KeySettings()
    routing: RoutingSettings = RoutingSettings()
    artifacts: ArtifactSettings = ArtifactSettings()
    learning: LearningSettings = LearningSettings()
    budgets: BudgetSettings = BudgetSettings()
    turn_budgets: TurnBudgetSettings = TurnBudgetSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    tracing: TracingSettings = TracingSettings()
    federation: FederationSettings = FederationSettings()
    profiles: dict[str, ProfileSettings] = {}
    providers: dict[str, ProviderSettings] = {}
    models: dict[str, ModelSettings] = {}
    passthrough: dict[str, PassthroughSettings] = {}
    data_rules: dict[str, DataRuleSettings] = {}

    @model_validator(mode="after")
    def _names_resolve(self) -> Self:
        for name, model in self.models.items():
            places = model.deployments or (model,)
            unknown = next((p.provider for p in places if p.provider not in self.providers), None)
            if unknown is not None:
                where = "deployments.provider" if model.deployments else "provider"
                raise ValueError(f"models.{name}.{where}: there is no [providers.{unknown}] table")
            strange = next((n for n in model.fallbacks if n == name or n not in self.models), None)
            if strange is not None:
                raise ValueError(f"models.{name}.fallbacks: {strange!r} is no other model")
        for name, table in self.passthrough.items():
            if table.provider not in self.providers:
                raise ValueError(
                    f"passthrough.{name}.provider: there is no [providers.{table.provider}] table"
                )
        refuse_shared(self.passthrough)
        if self.routing.default_profile not in self.all_profiles:
            raise ValueError(
                f"routing.default_profile: no profile {self.routing.default_profile!r}; "
                f"known: {', '.join(self.all_profiles)}"
            )
        taken = sorted(({"auto"} | set(self.all_profiles)) & set(self.models))
        if taken:
            raise ValueError(
                f"models.{taken[0]}: the name belongs to a routing profile; choose another one"
            )
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
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
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
        _warn_of_variables_within(value, environ, where)
        return value
    if value.startswith("$$"):
        return value[1:]
    if value[1:] not in environ:
        raise ConfigurationError(
            f"{where}: environment variable {value[1:]} is not set "
            "(a value that begins with a dollar sign itself is written with two)"
        )
    return environment_value(environ, value[1:])


def _warn_of_variables_within(value: object, environ: Mapping[str, str], where: str) -> None:
    """Say that a variable in the middle of a text is not replaced, where there is such a one."""
    names = _VARIABLE.findall(value) if isinstance(value, str) else ()
    for name in names:
        if name in environ:
            _log.warning(
                "%s: $%s stands in a longer text, so it is not replaced; put the whole value into "
                "one environment variable",
                *(where, name),
            )


def _explain(error: ValidationError, file: Path | None) -> str:
    """One line per problem, with the dotted key and without the secret values."""
    source = str(file) if file else "default settings"
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        key = ".".join(str(part) for part in problem["loc"]) or "settings"
        told = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            told = "there is no such setting"
        elif problem["type"] == "tuple_type":
            told = 'write a list, such as ["a", "b"]'
        lines.append(f"{source}: {key}: {told}")
    return "\n".join(lines)

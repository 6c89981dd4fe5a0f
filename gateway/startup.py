"""What must be in place before the event loop starts: directories, schema, first key, token."""

from dataclasses import dataclass

from pydantic import SecretStr
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.access.keys import ensure_first_key, load_admin_token
from gateway.settings.config import ConfigurationError, GatewaySettings
from gateway.storage.database import (
    create_database_engine,
    ensure_schema,
    summary,
    wait_for_database,
)


@dataclass(frozen=True, slots=True)
class Startup:
    """The prepared ground.

    Attributes:
        admin_token_source: Where an operator finds the token: the setting or a file.
        new_key: The first virtual key's secret, when this start made it.
    """

    engine: Engine
    admin_token: SecretStr
    admin_token_source: str
    new_key: str | None


def prepare(settings: GatewaySettings) -> Startup:
    """Create the data directory, bring the schema up to date, make the first key and the token.

    Raises:
        ConfigurationError: The directory or the database cannot be used.
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(
            f"data_dir: {settings.data_dir} cannot be created: {error.strerror}"
        ) from error
    engine = create_database_engine(settings.database_url)
    try:
        wait_for_database(engine, settings.database.wait_s)
        ensure_schema(engine)
        new_key = ensure_first_key(engine)
    except SQLAlchemyError as error:
        where = engine.url.render_as_string(hide_password=True)
        raise ConfigurationError(
            f"database.url: {where} cannot be used: {summary(error)}"
        ) from error
    return Startup(engine, *_admin_token(settings), new_key)


def open_prepared(settings: GatewaySettings) -> Startup:
    """Open in another process what `prepare` has prepared in this one's parent."""
    engine = create_database_engine(settings.database_url)
    return Startup(engine, *_admin_token(settings), new_key=None)


def _admin_token(settings: GatewaySettings) -> tuple[SecretStr, str]:
    """Return the token and where an operator finds it."""
    given = settings.server.admin_token
    if given is not None:
        return given, "server.admin_token"
    file = settings.data_dir / "admin-token"
    return load_admin_token(file), str(file)

"""What must be in place before the event loop starts, and the first key once all went well."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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

FIRST_KEY: Final = "first-key"
"""File of the data directory."""


@dataclass(frozen=True, slots=True)
class Startup:
    """The prepared ground.

    Attributes:
        admin_token_source: Where an operator finds the token: the setting or a file.
    """

    engine: Engine
    admin_token: SecretStr
    admin_token_source: str


def prepare(settings: GatewaySettings) -> Startup:
    """Create the data directory, bring the schema up to date, make the token.

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
    except SQLAlchemyError as error:
        where = engine.url.render_as_string(hide_password=True)
        raise ConfigurationError(
            f"database.url: {where} cannot be used: {summary(error)}"
        ) from error
    return Startup(engine, *_admin_token(settings))


def open_prepared(settings: GatewaySettings) -> Startup:
    """Open in another process what `prepare` has prepared in this one's parent."""
    engine = create_database_engine(settings.database_url)
    return Startup(engine, *_admin_token(settings))


def first_key_line(engine: Engine, data_dir: Path, *, is_terminal: bool) -> str | None:
    """Make the first key where there is none; returns where it is, or on a terminal the key.

    To be called once nothing can stop the start any more: the key cannot be shown again. What is
    no terminal is often kept as a log, which must not hold it, so it goes to a file.
    """
    key = ensure_first_key(engine)
    if key is None:
        return None
    if is_terminal:
        return f"your key, shown only now: {key}"
    file = data_dir / FIRST_KEY
    try:
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
            output.write(f"{key}\n")
    except OSError as error:
        return (
            f"the first key cannot be kept in {file} ({error.strerror}): "
            "`waypost keys create` makes another"
        )
    return f"your key: in {file}"


def _admin_token(settings: GatewaySettings) -> tuple[SecretStr, str]:
    """Return the token and where an operator finds it."""
    given = settings.server.admin_token
    if given is not None:
        return given, "server.admin_token"
    file = settings.data_dir / "admin-token"
    return load_admin_token(file), str(file)

"""What every table of settings has in common."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict


class ConfigurationError(Exception):
    """The settings cannot be used; the message names the file, the key and the remedy."""


def environment_value(environ: Mapping[str, str], name: str) -> str:
    """Return the value of an environment variable.

    Raises:
        ConfigurationError: It holds what no key or address does, such as the line end of the file
            that it was read from. A header cannot carry that, so every call would fail.
    """
    value = environ[name]
    if value != value.strip() or not value.isprintable():
        raise ConfigurationError(
            f"environment variable {name} begins or ends with a blank or a line end, or holds a "
            "control character; set it without"
        )
    return value


class Settings(BaseModel):
    """Base of every settings table: frozen, and a misspelt key stops the start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

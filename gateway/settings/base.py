"""What every table of settings has in common."""

from pydantic import BaseModel, ConfigDict


class ConfigurationError(Exception):
    """The settings cannot be used; the message names the file, the key and the remedy."""


class Settings(BaseModel):
    """Base of every settings table: frozen, and a misspelt key stops the start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

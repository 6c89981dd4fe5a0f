"""What can join a router that is there already; imported by commands that must start at once."""

from collections.abc import Mapping
from typing import Final

MODELS_JOIN: Final = "models"
CLIENTS_JOIN: Final = "clients"

GROWTHS: Final[Mapping[str, tuple[str, ...]]] = {
    "models": (MODELS_JOIN,),
    "clients": (CLIENTS_JOIN,),
    "any": (CLIENTS_JOIN, MODELS_JOIN),
}
"""What an operator may ask for; of any, whatever enough sites turn out to bring."""

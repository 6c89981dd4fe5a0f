"""What the learner did so far, in numbers: kept beside the routers, published as metrics."""

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from gateway.artifacts.store import replace_file
from gateway.artifacts.trust import open_regular

NAME: Final = "learning.json"

_log = logging.getLogger(__name__)


class LearningFile:
    """One file; the learner writes it, and whoever scrapes a gateway gets what it holds.

    A copy of what the database knows, so that no scrape waits for the database.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def write(self, events: Mapping[str, tuple[int, datetime]]) -> None:
        """Replace the file: how many events of each kind there were, and when the last was."""
        table = {what: [number, at.timestamp()] for what, (number, at) in events.items()}
        replace_file(self._path, json.dumps(table).encode())

    def collect(self) -> Iterable[Metric]:
        """Yield a series per kind of event; none where the file is missing or damaged."""
        number = CounterMetricFamily(
            "waypost_learning_events",
            "Steps of the learner, by what was done: `trained`, `refused`, `proposed`, "
            "`canary`, `activated`, `watched`, `rolled_back`, `failed`, `skipped`.",
            labels=["what"],
        )
        last = GaugeMetricFamily(
            "waypost_learning_last_event_timestamp_seconds",
            "Unix time of the learner's last step of a kind.",
            labels=["what"],
        )
        for what, (count, at) in self._read().items():
            number.add_metric([what], count)
            last.add_metric([what], at)
        yield from (number, last)

    def _read(self) -> Mapping[str, tuple[float, float]]:
        try:
            with open_regular(self._path) as file:
                table: dict[str, Any] = json.loads(file.read())
            return {str(what): (float(one[0]), float(one[1])) for what, one in table.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
            _log.warning("%s cannot be read, so its metrics are missing: %s", self._path, error)
            return {}

"""What Prometheus sees of a gateway."""

from dataclasses import dataclass

import httpx2
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.gateway import RunningGateway


@dataclass(frozen=True)
class Scrape:
    """One reading of all metrics.

    Attributes:
        families: In the order of the page, those without samples too.
    """

    families: list[Metric]

    @classmethod
    def parse(cls, page: str) -> "Scrape":
        """Read Prometheus' text format, strictly."""
        return cls(list(text_string_to_metric_families(page)))

    @property
    def names(self) -> set[str]:
        """What an operator calls the families."""
        return {f.name + "_total" * (f.type == "counter") for f in self.families}

    @property
    def help(self) -> dict[str, str]:
        """What the page says of our families, by the name that an operator uses."""
        ours = (f for f in self.families if f.name.startswith(("waypost", "gen_ai")))
        return {f.name + "_total" * (f.type == "counter"): f.documentation for f in ours}

    @property
    def series(self) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        """Every series there is."""
        return {
            (sample.name, frozenset(sample.labels.items()))
            for family in self.families
            for sample in family.samples
        }

    def sum(self, name: str, **labels: str) -> float:
        """Add up the series of one name that have these labels."""
        return sum(
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


async def scrape(gateway: RunningGateway) -> Scrape:
    """Read the gateway's metrics through its admin side."""
    transport = httpx2.ASGITransport(gateway.app.admin)
    async with httpx2.AsyncClient(transport=transport, base_url="http://admin") as scraper:
        return Scrape.parse((await scraper.get("/metrics")).text)

"""This gateway's database and routers, handed to its federation node."""

from datetime import UTC, datetime

from sqlalchemy import Engine

from federation.node.bundles import BundleFile
from federation.node.gateway_site import GatewaySite
from federation.node.verdicts import VerdictLimit
from federation.site import SitePolicy
from gateway.artifacts.frontier_file import prices_of
from gateway.artifacts.store import router_store
from gateway.embedded.routers import packaged_router
from gateway.federation.paths import BUNDLES, VERDICTS, node_dir
from gateway.federation.team_rows import TeamsRows
from gateway.routing.encoders import load_encoder
from gateway.settings.config import ConfigurationError, GatewaySettings
from router_models.artifacts.registry import ModelRegistry
from router_models.errors import InvalidRegistry
from router_models.evaluation.acceptance import AcceptanceCriteria


def open_site(settings: GatewaySettings, engine: Engine) -> GatewaySite:
    """Make this gateway the site that its node answers for.

    Raises:
        ConfigurationError: A name in the settings stands for two models, or the node has no name.
    """
    node = settings.federation.node
    if node.name is None:
        raise ConfigurationError(
            "federation.node.name: required, the name of this organisation in the federation"
        )
    try:
        own_names = ModelRegistry(node.models)
    except InvalidRegistry as error:
        raise ConfigurationError(f"federation.node.models: {error}") from error
    encoder = load_encoder(settings.routing.encoder)
    packaged = packaged_router(encoder.id, settings.embedded)
    return GatewaySite(
        name=node.name,
        encoder=encoder,
        log=TeamsRows(engine, None if node.teams is None else tuple(node.teams)),
        store=router_store(settings),
        default_artifact=None if packaged is None else packaged.read_bytes(),
        prices=prices_of(settings),
        clock=lambda: datetime.now(UTC),
        own_names=own_names,
        private_models=frozenset(node.private_models),
        policy=SitePolicy(
            least_rows=node.least_rows,
            needs_noise=node.epsilon is not None,
            needs_secure_sum=node.needs_secure_sum,
            least_noise=node.least_noise,
            trusts_coordinator=node.trusts_coordinator,
        ),
        bundles=BundleFile(node_dir(settings) / BUNDLES, encoder.id),
        verdicts=VerdictLimit(node_dir(settings) / VERDICTS, node.routers_per_day),
        criteria=AcceptanceCriteria(tolerance=node.tolerance),
        most_rows=node.most_rows,
    )

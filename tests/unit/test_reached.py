"""What is shipped serves a command; what only measures belongs to benchmarks/."""

import grimp

from tests.unit.test_house import PACKAGES

SHIPPED = PACKAGES[:5]
ROOMS_OF_COMMANDS = ("gateway.commands", "gateway.federation")
STARTED_BY_NAME = {
    "budget.ledger.redis_store",
    "federation.deployment.flower",
    "federation.learning.mlp_training",
    "federation.privacy.noisy_gradient",
    "gateway.__main__",
    "gateway.embedded.child",
    "gateway.evaluation_log.log_parquet",
    "gateway.learning.process",
    "gateway.telemetry.otlp_tracing",
    "migrations.env",
    "migrations.history",
    "router_models.encoders.minilm",
    "router_models.training.mlp",
}


def reached(graph: grimp.ImportGraph, starts: set[str]) -> set[str]:
    """Follow imports; a module brings the packages along that it lies in."""
    found: set[str] = set()
    waiting = starts
    while waiting:
        module = waiting.pop()
        found.add(module)
        enclosing = module.rpartition(".")[0]
        imported = graph.find_modules_directly_imported_by(module)
        waiting |= (imported | ({enclosing} if enclosing else set())) - found
    return found


def test_every_module_that_is_shipped_is_reached_by_a_command() -> None:
    graph = grimp.build_graph(*SHIPPED, cache_dir=None)
    starts = {module for module in graph.modules if module.startswith(ROOMS_OF_COMMANDS)}

    starts |= STARTED_BY_NAME
    assert graph.modules >= starts
    assert graph.modules - reached(graph, starts) == set()

from tests.unit.federation.conftest import grid, quiet_flower

__all__ = ["grid", "quiet_flower"]

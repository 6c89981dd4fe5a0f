"""The federation as processes: coordinator, gate, nodes, certificates."""

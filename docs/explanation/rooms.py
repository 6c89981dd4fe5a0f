"""Counts the rooms of each package: `python docs/explanation/rooms.py [CHECKOUT]`.

A room is a folder of a package, or a module that lies in the package itself. An arrow leads from a
room to another one that it imports. Prints rooms, arrows, and the rooms that lie on a cycle; with
`--arrows` every arrow too. `lint-imports` forbids the cycles; this shows how the rooms lie.
"""

import sys
from collections import defaultdict
from pathlib import Path

import grimp

PACKAGES = ("gateway", "federation", "budget", "router_models", "migrations")


def main() -> None:
    """Print a line for each package."""
    checkouts = [name for name in sys.argv[1:] if not name.startswith("--")]
    checkout = Path(checkouts[0] if checkouts else Path(__file__).parents[2]).resolve()
    sys.path.insert(0, str(checkout))
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    print(f"{'package':14} {'rooms':>5} {'arrows':>6}  on a cycle")
    for package in PACKAGES:
        arrows = arrows_of(graph, package)
        rooms = {room_of(module) for module in graph.modules if module.startswith(f"{package}.")}
        on_cycle = sorted(room for room in rooms if room in reachable(arrows, room))
        print(
            f"{package:14} {len(rooms):5} {sum(map(len, arrows.values())):6}  "
            f"{', '.join(on_cycle) or 'none'}"
        )
        if "--arrows" in sys.argv:
            for room in sorted(arrows):
                print(f"  {room} -> {', '.join(sorted(arrows[room]))}")


def room_of(module: str) -> str:
    """Name the room that a module lies in."""
    return module.split(".")[1]


def arrows_of(graph: grimp.ImportGraph, package: str) -> dict[str, set[str]]:
    """Map each room of `package` to the others of it that it imports."""
    arrows: dict[str, set[str]] = defaultdict(set)
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            if min(module.count("."), imported.count(".")) == 0:
                continue
            if module.split(".")[0] == imported.split(".")[0] == package:
                arrows[room_of(module)].add(room_of(imported))
    return {room: others - {room} for room, others in arrows.items()}


def reachable(arrows: dict[str, set[str]], start: str) -> set[str]:
    """Collect the rooms that can be reached from `start` by at least one arrow."""
    found: set[str] = set()
    waiting = list(arrows.get(start, ()))
    while waiting:
        room = waiting.pop()
        if room not in found:
            found.add(room)
            waiting.extend(arrows.get(room, ()))
    return found


if __name__ == "__main__":
    main()

"""Starts Waypost, whatever else is installed under the names of its packages.

`gateway`, `budget`, `federation` and `migrations` are names that other distributions use too. A
wheel has them in a folder `_waypost`, where no other distribution writes; a clone has them beside
this file. Either folder is searched first, by this process and by those that it spawns:
`docs/decisions/packaging.md`.
"""

import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = str(HERE / "_waypost" if (HERE / "_waypost").is_dir() else HERE)
if sys.path[0] != FOLDER:
    sys.path.insert(0, FOLDER)


def main() -> None:
    """Run the command line."""
    # Found by the path above alone, so not imported at the top.
    import_module("gateway.cli").main(prog_name="waypost")


if __name__ == "__main__":
    main()

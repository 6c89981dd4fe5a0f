"""`python -m gateway` is `waypost`."""

from gateway.cli import main

main()

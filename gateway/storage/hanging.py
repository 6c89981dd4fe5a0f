"""Gives up statements of a database that answers nothing and breaks no connection.

A frozen server, or a network that swallows everything, holds a thread for ever, and Python waits at
its end for the threads of every executor. Breaking the connections frees them.
"""

import os
import socket
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from sqlalchemy import Engine, QueuePool, event


class BreakablePool(QueuePool):
    """A pool of connections with sockets, which can be broken while statements wait on them."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._open: WeakSet[Any] = WeakSet()
        event.listen(self, "connect", lambda connection, _: self._open.add(connection))

    def break_all(self) -> None:
        """Break every connection; whoever waits on one gets an `OperationalError`.

        The pool stays usable: it pings before it lends, and opens new ones.
        """
        for connection in list(self._open):
            if not connection.closed:
                with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as own:
                    own.shutdown(socket.SHUT_RDWR)


def give_up_statements(engine: Engine) -> None:
    """End all statements that run, where the engine's pool knows how."""
    if isinstance(engine.pool, BreakablePool):
        engine.pool.break_all()

"""One pipelined connection to Redis that many calls share, and its way back after a failure.

redis-py connects, authenticates and speaks TLS; the bytes after that go straight between the
socket and hiredis. A call costs about a quarter of redis-py's own (docs/decisions/ledger.md), and
a gateway process needs one connection however many turns it serves.
"""

import asyncio
from collections import deque
from typing import Any, Protocol

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

Argument = bytes | str | int

RECONNECT_DELAY_S = 0.1
"""After a failed connection attempt calls fail at once for this long."""


class Unreachable(Exception):
    """Redis did not answer.

    Attributes:
        may_have_run: The command was sent, so nobody knows whether it ran.
    """

    def __init__(self, message: str, *, may_have_run: bool) -> None:
        super().__init__(message)
        self.may_have_run = may_have_run


class Link(Protocol):
    """Carries commands to Redis."""

    async def call(self, command: tuple[Argument, ...], key: bytes) -> Any:
        """Send a command, of which `key` is one key, and wait for its reply.

        Raises:
            Unreachable: No reply.
            redis.exceptions.ResponseError: Redis refused the command.
        """
        ...

    async def reset(self) -> None:
        """Drop the connection: the next call makes a new one."""
        ...


class PipelinedLink:
    """The `Link` to one server.

    Args:
        pool: Makes connections; redis-py's own, so that every way to connect works.
        connect_timeout_s: Until Redis has accepted the credentials.
        call_timeout_s: From sending a command to its reply.
    """

    def __init__(
        self, pool: ConnectionPool, *, connect_timeout_s: float, call_timeout_s: float
    ) -> None:
        self._pool = pool
        self._connect_timeout_s = connect_timeout_s
        self._call_timeout_s = call_timeout_s
        self._channel: _Channel | None = None
        self._connection: AbstractConnection | None = None
        self._connecting = asyncio.Lock()
        self._rests_until_s = 0.0

    async def call(self, command: tuple[Argument, ...], key: bytes) -> Any:
        """Send a command and wait for its reply; once more where the connection broke.

        Repeating is safe: every operation of the ledger is idempotent.
        """
        del key
        packed = hiredis.pack_command(command)  # type: ignore[arg-type] # stub: one argument
        try:
            reply = await (await self._open_channel()).send(packed)
        except ConnectionError:
            try:
                reply = await (await self._open_channel()).send(packed)
            except (ConnectionError, Unreachable) as error:
                raise Unreachable(str(error), may_have_run=True) from error
        if isinstance(reply, hiredis.ReplyError):
            raise ResponseError(str(reply))
        return reply

    async def reset(self) -> None:
        """Drop the connection: the next call makes a new one."""
        if self._channel is not None:
            self._channel.abort("the link was reset")
        await self._release()

    async def _open_channel(self) -> "_Channel":
        channel = self._channel
        if channel is not None and not channel.is_lost:
            return channel
        async with self._connecting:
            if self._channel is None or self._channel.is_lost:
                self._channel = await self._connect()
            return self._channel

    async def _connect(self) -> "_Channel":
        loop = asyncio.get_running_loop()
        if loop.time() < self._rests_until_s:
            raise Unreachable("the last attempt to connect has just failed", may_have_run=False)
        await self._release()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        except (RedisError, OSError, TimeoutError) as error:
            self._rests_until_s = loop.time() + RECONNECT_DELAY_S
            raise Unreachable(f"cannot connect: {error}", may_have_run=False) from error
        self._connection = connection
        transport = connection._writer.transport  # noqa: SLF001 - no public way to its socket
        channel = _Channel(transport, loop, self._call_timeout_s)
        transport.set_protocol(channel)
        return channel

    async def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)


class _Channel(asyncio.Protocol):
    """Replies in the order of the commands; fails all of them when one is overdue."""

    def __init__(
        self, transport: Any, loop: asyncio.AbstractEventLoop, call_timeout_s: float
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._timeout_s = call_timeout_s
        self._reader = hiredis.Reader()
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self.is_lost = False

    def send(self, packed: bytes) -> asyncio.Future[Any]:
        """Send one command; the future has its reply, or a ConnectionError or Unreachable."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((self._loop.time() + self._timeout_s, future))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._check_overdue)
        self._transport.write(packed)
        return future

    def data_received(self, data: bytes) -> None:
        """Hand the replies to those who wait, also where one of them has left."""
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not False:
                if isinstance(reply, hiredis.PushNotification):
                    continue
                _, future = waiting.popleft()
                if not future.done():
                    future.set_result(reply)
        except hiredis.ProtocolError as error:
            self.abort(f"not a reply of Redis: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail everybody who waits: their commands may have run."""
        self._fail(ConnectionError(f"the connection to Redis broke: {exc or 'closed'}"))

    def abort(self, reason: str) -> None:
        """Cut the connection without waiting for the other side."""
        self._fail(Unreachable(reason, may_have_run=True))
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        self.is_lost = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)

    def _check_overdue(self) -> None:
        """One timer for all calls: set for the oldest, moved on while replies keep coming."""
        self._watch = None
        if not self._waiting:
            return
        remaining_s = self._waiting[0][0] - self._loop.time()
        if remaining_s > 0:
            self._watch = self._loop.call_later(remaining_s, self._check_overdue)
        else:
            self.abort(f"Redis did not answer within {self._timeout_s} s")


class ClusterLink:
    """The `Link` to a Redis Cluster: redis-py finds the node that has the key."""

    def __init__(self, cluster: RedisCluster, *, call_timeout_s: float) -> None:
        self._cluster = cluster
        self._timeout_s = call_timeout_s

    async def call(self, command: tuple[Argument, ...], key: bytes) -> Any:
        """Send a command to the node of `key`, following the cluster's redirections."""
        node = None
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._cluster.initialize()
                node = self._cluster.get_node_from_key(key.decode())
                return await self._cluster.execute_command(*command)
        except (ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError) as error:
            raise Unreachable(str(error), may_have_run=False) from error
        except ResponseError:
            raise
        except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
            raise Unreachable(str(error), may_have_run=node is not None) from error

    async def reset(self) -> None:
        """Forget the cluster's layout: the next call asks for it again."""
        await self._cluster.aclose()

"""The settings of the gateway's process: its ports, database, evaluation log, keys and traces."""

from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr

from gateway.settings.base import Settings

MEMORY_PER_BODY_BYTE: Final = 4
"""What a body costs while it is served: as read, as parsed, as encoded and as sent on."""


class ServerSettings(Settings):
    """The ports and processes of the gateway, the limits of a request, and how it stops."""

    host: Annotated[
        str,
        Field(
            description="Address that the API for callers listens on. The default accepts "
            'connections from this machine only; "0.0.0.0" accepts them on every IPv4 interface.'
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Field(ge=0, le=65535, description="TCP port of the API for callers. 0 picks a free port."),
    ] = 8080
    admin_host: Annotated[
        str,
        Field(
            description="Address that the admin API and `/metrics` listen on. Metrics and health "
            "checks need no token, so expose it to operators only."
        ),
    ] = "127.0.0.1"
    admin_port: Annotated[
        int,
        Field(
            ge=0,
            le=65535,
            description="TCP port of the admin API and `/metrics`. 0 picks a free port.",
        ),
    ] = 8081
    admin_token: Annotated[
        SecretStr | None,
        Field(
            description="Bearer token of the admin API. By default a random token is created at "
            "the first start and kept in the file `admin-token` of the data directory."
        ),
    ] = None
    max_body_bytes: Annotated[
        int,
        Field(
            gt=0,
            description="Largest request body in bytes; a larger one is refused with status 413. "
            "A body is held in memory, so a higher limit lets callers use more of it.",
        ),
    ] = 20 * 1024 * 1024
    cors_origins: Annotated[
        tuple[str, ...],
        Field(
            description="Origins of web pages that may call the API from a browser, such as "
            '`["https://chat.example.org"]`; `["*"]` admits all. By default none. Whoever opens '
            "such a page can read the key that it sends."
        ),
    ] = ()
    body_memory_bytes: Annotated[
        int,
        Field(
            gt=0,
            description="Memory in bytes that the bodies of all requests under way may take in one "
            "process, as estimated: 4 times their length, more for bodies of many small values. "
            "A request that does not fit gets status 503. Long text with a single emoji takes "
            "twice the estimate, so set this to at most half of the memory that the process may "
            "use.",
        ),
    ] = 512 * 1024 * 1024
    body_memory_bytes_per_key: Annotated[
        int,
        Field(
            gt=0,
            description="Part of `body_memory_bytes` that the requests of one key may take. A "
            "further one gets status 429. Both limits count as at least 4 times `max_body_bytes`, "
            "so that the longest body can pass.",
        ),
    ] = 256 * 1024 * 1024
    max_connections: Annotated[
        int,
        Field(
            gt=0,
            description="Most connections of callers that one process keeps open. Half of the open "
            "files that the system allows the process is the limit if that is less. When all are "
            "taken, the one that has been idle longest is closed for a new one. If none is idle, "
            "the new one gets status 503.",
        ),
    ] = 5000
    max_connections_per_address: Annotated[
        int | None,
        Field(
            gt=0,
            description="Most connections from one IPv4 address or one IPv6 network of 64 bits; "
            "a further one gets status 429. No limit by default: behind a proxy or load balancer "
            "all callers have its address. Set it where callers connect directly.",
        ),
    ] = None
    max_header_bytes: Annotated[
        int,
        Field(
            gt=0,
            description="Largest request line and headers together, in bytes. Larger ones get "
            "status 431.",
        ),
    ] = 64 * 1024
    header_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds that the headers of a request may take from their first byte to "
            "their last. After that the caller gets status 408. Connections are checked once a "
            "second.",
        ),
    ] = 20.0
    body_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds within which the next part of a request's body has to arrive: 500 "
            "bytes for each of these seconds, or the rest of the body. Otherwise the caller gets "
            "status 408. A longer time helps callers whose connection is interrupted.",
        ),
    ] = 30.0
    idle_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds that a connection may stay open without a request. Set it above "
            "the time after which callers and load balancers close idle connections themselves, "
            "or some of their requests meet a closed connection.",
        ),
    ] = 75.0
    write_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds that a caller may leave an answer unread that waits for it. After "
            "that the connection is closed, and the call no longer counts for the provider's "
            "`max_concurrency`.",
        ),
    ] = 60.0
    request_deadline_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds that all attempts and fallbacks of one request may take together. "
            "After that the caller gets status 504. For a stream this time ends with its first "
            "event.",
        ),
    ] = 600.0
    stream_deadline_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds that a stream may take from its first event on. After that it "
            "ends with an error event, even if more is to come, and what was forwarded is "
            "charged. Reasoning models need minutes, so the default is an hour. A shorter time "
            "ends endless streams sooner.",
        ),
    ] = 3600.0
    abandoned_json_s: Annotated[
        float,
        Field(
            ge=0,
            description="Seconds that a call without streaming may go on after its caller has "
            "closed the connection, so that its cost becomes known: most providers bill it anyway. "
            "After that it is cancelled and charged the most that was reserved for it. 0 cancels "
            "at once.",
        ),
    ] = 30.0
    abandoned_stream_s: Annotated[
        float,
        Field(
            ge=0,
            description="Seconds that a stream may go on after its caller has closed the "
            "connection. 0 closes it at once and charges what was forwarded, as most providers do, "
            "and what a reasoning model may have thought unseen. Raise it if your provider bills "
            "the whole answer.",
        ),
    ] = 0.0
    drain_s: Annotated[
        float,
        Field(
            ge=0,
            description="Seconds to keep accepting requests after SIGTERM, while `/ready` returns "
            "503. Set it to the time that your load balancer needs to notice. 0 stops accepting "
            "at once.",
        ),
    ] = 0.0
    shutdown_grace_s: Annotated[
        float,
        Field(
            ge=0,
            description="Seconds that answers still running may take once the gateway accepts no "
            "more requests. Answers that take longer are cut off. Fractions are rounded up.",
        ),
    ] = 30.0
    proxy_from_environment: Annotated[
        bool,
        Field(
            description="Whether providers are called through the proxies that the environment "
            "names: `HTTPS_PROXY`, `HTTP_PROXY`, and `NO_PROXY` for hosts that are called "
            "directly. By default these variables are ignored."
        ),
    ] = False
    workers: Annotated[
        int,
        Field(
            ge=1,
            le=64,
            description="Number of processes that share the port, each on at most one CPU core. "
            "With more than one, budgets need Redis.",
        ),
    ] = 1
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="Least severe level of messages that are logged to standard error."),
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"],
        Field(
            description="Form of the log. `text` is for people. `json` writes one object per line, "
            "and one line more for every request."
        ),
    ] = "text"


class DatabaseSettings(Settings):
    """The database that keeps keys, teams, budgets and the evaluation log."""

    url: Annotated[
        str | None,
        Field(
            description="SQLAlchemy URL of a Postgres or SQLite database, such as "
            "`postgresql://user:password@host/waypost`. By default SQLite in the file "
            "`waypost.db` of the data directory, which serves one process only."
        ),
    ] = None
    wait_s: Annotated[
        float,
        Field(
            ge=0,
            description="Seconds that a start waits for a database that does not answer. After "
            "that, and at once with 0, the start fails.",
        ),
    ] = 0.0


class EvaluationLogSettings(Settings):
    """How requests, grades and charges are written to the database, off the request path."""

    batch_rows: Annotated[
        int,
        Field(
            gt=0,
            description="Most rows that are written in one transaction. Larger batches cost the "
            "database less per row and hold its write lock longer.",
        ),
    ] = 200
    flush_interval_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds after which rows are written even if a batch is not full. If the "
            "process is killed, the rows of this time are lost.",
        ),
    ] = 0.5
    queue_rows: Annotated[
        int,
        Field(
            gt=0,
            description="Most rows that wait in memory to be written. When the queue is full, "
            "further rows are dropped and counted in `waypost_log_rows_dropped_total`.",
        ),
    ] = 10_000
    spool_max_bytes: Annotated[
        int,
        Field(
            gt=0,
            description="Most bytes that are kept on disk while the database is down, by all "
            "processes that share the data directory. When the spool is full, rows wait in the "
            "queue, and are dropped when that is full too.",
        ),
    ] = 256 * 1024 * 1024
    retention_days: Annotated[
        int | None,
        Field(
            gt=0,
            description="Days after which rows are deleted from the database. A shorter time "
            "leaves less to train routers from.",
        ),
    ] = 90
    stored_responses_days: Annotated[
        int,
        Field(
            gt=0,
            description="Days for which a response is kept of a team that stores them, and a "
            "conversation from its beginning. After that no request can go on from it, and it is "
            "deleted. A shorter time keeps less of what callers said.",
        ),
    ] = 30


class KeySettings(Settings):
    """How long a gateway relies on what it last read about a virtual key."""

    staleness_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds within which a revoked, changed or new key takes effect. A "
            "shorter time asks the database more often what changed.",
        ),
    ] = 2.0
    read_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds to wait for the database when a key is looked up. After that a "
            "known key is used as it was last read, and a request with an unknown one gets status "
            "503.",
        ),
    ] = 2.0
    outage_grace_s: Annotated[
        float,
        Field(
            ge=0,
            description="Seconds that known keys stay valid, beyond `staleness_s`, while the "
            "database is down; a key revoked meanwhile is accepted too. After that, and at once "
            "with 0, requests get status 503.",
        ),
    ] = 300.0


class TracingSettings(Settings):
    """Traces of requests, sent to an OpenTelemetry collector."""

    endpoint: Annotated[
        str | None,
        Field(
            pattern=r"^https?://",
            description="URL of a collector that accepts OTLP over HTTP, such as "
            "`http://localhost:4318/v1/traces`. No traces are made by default.",
        ),
    ] = None
    headers: Annotated[
        dict[str, SecretStr],
        Field(description="HTTP headers sent with every batch, such as the collector's API key."),
    ] = {}
    service_name: Annotated[
        str, Field(description="Name of this gateway in the traces: `service.name`.")
    ] = "waypost"
    sampled_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of requests that are traced, from 0 to 1. Where the caller sends a "
            "`traceparent` header, its decision counts instead.",
        ),
    ] = 1.0
    content: Annotated[
        bool,
        Field(
            description="Put prompts into traces, for teams that keep the text of their queries. "
            "By default traces hold no text of callers."
        ),
    ] = False
    timeout_s: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds that sending one batch may take. Requests never wait for it.",
        ),
    ] = 10.0

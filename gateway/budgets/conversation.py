"""Whose turn it is: the end user and the conversation a request names, or is recognised by.

Names are hashed with the team, so the same name under two teams is two scopes, and neither counters
nor the journal hold what callers call their users.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any

from gateway.budgets.definitions import scope_digest
from gateway.types import Caller
from gateway.wire import ChatRequest

MAX_HASHED_CHARS = 65_536
"""Of a message: hashing costs 1 ms per MB, and openings differ early. The length counts too."""
MAX_HASHED_PARTS = 64
MAX_DEPTH = 4
OPENING_ROLES = frozenset({"system", "developer", "user"})


def end_user(request: ChatRequest, caller: Caller) -> str | None:
    """Return the digest of OpenAI's `safety_identifier`, else of `user`; None without either."""
    for field in ("safety_identifier", "user"):
        name = request.body.get(field)
        if isinstance(name, str) and name:
            return scope_digest(caller.team_id, "user", name)
    return None


def conversation(
    request: ChatRequest,
    caller: Caller,
    *,
    from_prefix: bool,
    answers: "AnsweredConversations | None" = None,
) -> str | None:
    """Return the digest of the conversation, by the first of these that the request has.

    The gateway's own id (header or `waypost` object); OpenAI's `conversation`; the first of the
    stored responses that the request goes on from; the answer that `previous_response_id` names,
    where it is remembered; `prompt_cache_key`; that id itself; and, where `from_prefix`, the
    conversation's opening.
    """
    body = request.body
    previous = _text(body.get("previous_response_id"))
    given, keeping = body.get("conversation"), request.keeping
    name = (
        request.options.conversation_id
        or _text(given)
        or (_text(given.get("id")) if isinstance(given, dict) else None)
        or (None if keeping is None else keeping.conversation_id or keeping.first_id)
    )
    if name is None and previous is not None and answers is not None:
        known = answers.conversation_of(caller.team_id, previous)
        if known is not None:
            return known
    name = name or _text(body.get("prompt_cache_key")) or previous
    if name is not None:
        return scope_digest(caller.team_id, "conversation", name)
    if not from_prefix or "messages" not in body:
        return None
    speaker = f"{caller.key_id}\0{end_user(request, caller) or ''}\0"
    return scope_digest(caller.team_id, "opening", speaker + opening(body["messages"]))


class AnsweredConversations:
    """Which conversation an answer belongs to, for `previous_response_id`; oldest out first.

    Known to this process only: elsewhere such an id begins a conversation of its own.
    """

    def __init__(self, max_answers: int = 20_000) -> None:
        self._conversations: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._max_answers = max_answers

    def note(self, team_id: str, answer_id: str, digest: str) -> None:
        """Remember that the answer `answer_id` belongs to the conversation `digest`."""
        self._conversations[team_id, answer_id] = digest
        if len(self._conversations) > self._max_answers:
            self._conversations.popitem(last=False)

    def conversation_of(self, team_id: str, answer_id: str) -> str | None:
        """Return the digest of the conversation that the team's answer belongs to."""
        return self._conversations.get((team_id, answer_id))


def opening(messages: Sequence[Any]) -> str:
    """Hash what stays the same when a client resends a growing history.

    That is every instruction before, and the first message of, the user. Two conversations of the
    same key and end user that open alike cannot be told apart: they share a budget. A client that
    drops or rewrites the beginning of its history starts a new conversation.
    """
    content = blake2b(digest_size=16)
    for message in messages[:MAX_HASHED_PARTS]:
        role = message.get("role")
        if role in OPENING_ROLES:
            content.update(f"\0\0{role}".encode())
            _add(content, message.get("content"), MAX_DEPTH)
        if role == "user":
            break
    return content.hexdigest()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _add(content: Any, value: object, depth: int) -> None:
    """Feed a message's content, whatever its form, to the hash; bounded in time."""
    if isinstance(value, str):
        clipped = f"\0{len(value)}\0{value[:MAX_HASHED_CHARS]}"
        content.update(clipped.encode("utf-8", "surrogatepass"))
    elif isinstance(value, dict | list) and depth:
        content.update(f"\0{type(value).__name__}{len(value)}".encode())
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in islice(parts, MAX_HASHED_PARTS):
            _add(content, str(key), 0)
            _add(content, part, depth - 1)
    else:
        content.update(f"\0{type(value).__name__}".encode())

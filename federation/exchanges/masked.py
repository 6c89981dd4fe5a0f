"""Secure aggregation: the coordinator reads the total of all sites and nothing else.

Before such an exchange the selected sites send fresh public keys. The request then names them all,
and each site masks its answer for exactly these. If one of them drops out the sum cannot be
unmasked, and the survivors are asked again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from federation.errors import ReplyRejected
from federation.exchanges.exchange import Exchange, SumExchange, Task
from federation.privacy.members import CARD_BYTES, Identity, unsigned
from federation.privacy.secure_sum import (
    KEY_BYTES,
    SecureSumRefused,
    generate_private_key,
    mask,
    public_key,
    unmask,
)
from federation.protocol.protocol import Instruction, Payload, TrainingPlan
from federation.protocol.updates import Field, Form, Reply

KEY: Final = "key"
MEMBERS: Final = "members"
"""Part of a request: the cards of all selected sites; shape ``(n_members, CARD_BYTES)``."""

ALL_SITES: Final = "all sites"


@dataclass(slots=True)
class MaskingKey:
    """A site's one-time private key, for its next masked answer: used once, then forgotten.

    It is never written anywhere: a node that restarts in between drops out of that sum.

    Attributes:
        identity: Signs the key, and knows the other members; None masks for whoever is named.
    """

    identity: Identity | None = None
    _key: bytes | None = field(default=None, init=False, repr=False)

    def generate(self, instruction: Instruction) -> bytes:
        """Make a new key, in place of an unused one, and return the card with its public part."""
        self._key = generate_private_key()
        public = public_key(self._key)
        if self.identity is None:
            return unsigned(public)
        return self.identity.sign(public, _label(instruction))

    def mask(self, exchange: Exchange, instruction: Instruction, payload: Payload) -> Payload:
        """Hide an answer from everybody but all members together.

        Raises:
            SecureSumRefused: No key was drawn for this, a member is not pinned, or the members or
                the payload do not fit.
        """
        key, self._key = self._key, None
        if key is None:
            raise SecureSumRefused("there is no key for this secure sum, or it was used already")
        label, cards = _label(instruction), [row.tobytes() for row in _members(instruction)]
        if self.identity is not None:
            self.identity.check(cards, label)
        keys = [card[:KEY_BYTES] for card in cards]
        return dict(mask(payload, key, keys, json.dumps([label, exchange.name])))


@dataclass(frozen=True, slots=True)
class KeyExchange(Exchange):
    """Every site sends the public key that it will mask its next answer with.

    Attributes:
        masking_key: The site's; on the coordinator it stays empty.
    """

    name: ClassVar[str] = "query.keys"
    state_prefixes: ClassVar[tuple[str, ...]] = ()
    is_about_rows: ClassVar[bool] = False

    masking_key: MaskingKey = field(default_factory=MaskingKey)

    def answer(self, task: Task) -> Payload:
        """Draw a new key."""
        return {KEY: np.frombuffer(self.masking_key.generate(task.instruction), np.uint8)}

    def form(self, instruction: Instruction) -> Form:  # noqa: ARG002
        """One key, and who vouches for it."""
        return Form({KEY: Field((CARD_BYTES,), "uint8")})

    def rows(self, payload: Payload) -> float:  # noqa: ARG002
        """Return 0: keys are computed from no row."""
        return 0.0

    def aggregate(
        self,
        state: Payload,
        instruction: Instruction,  # noqa: ARG002
        replies: Sequence[Reply],
    ) -> Payload:
        """List all members' keys."""
        return {**state, MEMBERS: np.stack([reply.payload[KEY] for reply in replies])}


def is_masked(exchange: Exchange, plan: TrainingPlan) -> bool:
    """Whether answers to this leave sites masked."""
    return plan.secure_sum and isinstance(exchange, SumExchange)


def masked_form(form: Form) -> Form:
    """Say what a masked answer looks like: the same shapes, and nothing can be said of values."""
    return Form({name: Field(expected.shape, "uint64") for name, expected in form.fields.items()})


def member_count(instruction: Instruction) -> int:
    """Count the sites that a masked answer was made for."""
    return len(_members(instruction))


def _label(instruction: Instruction) -> str:
    """Name one step of one training; what is signed or masked for it fits no other."""
    plan = sha256(instruction.plan.to_json().encode()).hexdigest()
    return json.dumps([plan, instruction.round])


def _members(instruction: Instruction) -> NDArray[np.uint8]:
    """Return the public keys that a request names.

    Raises:
        SecureSumRefused: It names none.
    """
    keys = instruction.sent.get(MEMBERS)
    if keys is None or keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != CARD_BYTES:
        raise SecureSumRefused("the coordinator's question names no keys to mask the sum with")
    return keys


def unmask_total(exchange: Exchange, instruction: Instruction, replies: Sequence[Reply]) -> Reply:
    """Add up masked answers, and check the total as if it were one site's answer.

    Raises:
        SecureSumRefused: An answer is missing.
        ReplyRejected: The total is not of the exchange's form. Masks hide whose answer spoilt it.
    """
    total = unmask([reply.payload for reply in replies], member_count(instruction))
    payload: Payload = dict(total)
    if instruction.plan.noise is not None:
        payload = exchange.post_processed(instruction, payload)
    try:
        exchange.form(instruction).check(payload)
    except ReplyRejected as error:
        raise ReplyRejected(f"the secure sum of {exchange.name} cannot be used: {error}") from error
    return Reply(ALL_SITES, payload)

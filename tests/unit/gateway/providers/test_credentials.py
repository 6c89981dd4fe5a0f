"""Credentials are fetched once, renewed in time, and never waited for without need."""

import asyncio
import threading

import pytest

from gateway.errors import ProviderMisconfigured, ProviderUnavailable
from gateway.providers.credentials import LEAST_AGE_S, PAUSE_S, Keeper, Token
from gateway.providers.failures import AttemptFailed
from tests.fakes.clocks import ManualClock
from tests.fakes.turns import until


class Source:
    """Gives numbered tokens, or fails as it is told."""

    def __init__(self, valid_s: float = 3600.0) -> None:
        self.valid_s = valid_s
        self.fetched = 0
        self.error: Exception | None = None
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self) -> Token:
        self.fetched += 1
        number, error = self.fetched, self.error
        self.may_go_on.wait(20)
        if error is not None:
            raise error
        return Token(f"token-{number}", self.valid_s)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def keeper(source: Source, clock: ManualClock) -> Keeper:
    return Keeper("cloud", source, 20.0, clock)


async def test_the_event_loop_goes_on_while_credentials_are_fetched(
    keeper: Keeper, source: Source
) -> None:
    source.may_go_on.clear()
    waiting = [asyncio.create_task(keeper.credentials()) for _ in range(5)]
    await until(lambda: source.fetched == 1)

    source.may_go_on.set()
    tokens = await asyncio.gather(*waiting)

    assert {token.secrets for token in tokens} == {("token-1",)}
    assert source.fetched == 1


async def test_old_credentials_serve_while_new_ones_are_fetched(
    keeper: Keeper, source: Source, clock: ManualClock
) -> None:
    await keeper.credentials()
    clock.advance(3600 - 299)
    source.may_go_on.clear()

    tokens = [await keeper.credentials() for _ in range(3)]
    source.may_go_on.set()
    await until(lambda: "token-2" in keeper.secrets)

    assert {token.secrets for token in tokens} == {("token-1",)}
    assert (await keeper.credentials()).secrets == ("token-2",)
    assert source.fetched == 2


async def test_short_lived_credentials_are_renewed_at_half_of_their_life(
    keeper: Keeper, source: Source, clock: ManualClock
) -> None:
    source.valid_s = 100.0
    await keeper.credentials()

    clock.advance(49)
    await keeper.credentials()
    assert source.fetched == 1
    clock.advance(2)
    await keeper.credentials()
    await until(lambda: source.fetched == 2)


async def test_a_renewal_in_vain_is_not_told_while_the_old_ones_are_good(
    keeper: Keeper, source: Source, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await keeper.credentials()
    source.error = OSError("the issuer\nis away")
    clock.advance(3400)

    await keeper.credentials()
    await until(lambda: "OSError: the issuer" in caplog.text)
    await keeper.credentials()  # and the issuer is left in peace for a while

    assert source.fetched == 2
    assert "is away" not in caplog.text
    clock.advance(200 + PAUSE_S)
    with pytest.raises(AttemptFailed) as caught:
        await keeper.credentials()
    assert isinstance(caught.value.error, ProviderMisconfigured)
    assert not caught.value.may_be_billed


async def test_an_issuer_that_hangs_is_not_waited_for_longer_than_allowed(
    source: Source, clock: ManualClock
) -> None:
    keeper = Keeper("cloud", source, 0.01, clock)
    source.may_go_on.clear()

    with pytest.raises(AttemptFailed) as caught:
        await keeper.credentials()
    source.may_go_on.set()

    assert isinstance(caught.value.error, ProviderUnavailable)
    await until(lambda: keeper.secrets == ("token-1",))
    assert (await keeper.credentials()).secrets == ("token-1",)


async def test_credentials_that_are_refused_young_are_not_replaced(
    keeper: Keeper, source: Source, clock: ManualClock
) -> None:
    refused = await keeper.credentials()

    clock.advance(LEAST_AGE_S - 1)
    assert await keeper.instead_of(refused) is None
    clock.advance(2)
    others = await keeper.instead_of(refused)

    assert others is not None
    assert others.secrets == ("token-2",)
    # Another request that was refused the old ones takes these, and fetches nothing.
    assert await keeper.instead_of(refused) is others
    assert source.fetched == 2


async def test_secrets_of_the_last_credentials_are_known_for_answers_that_still_come(
    keeper: Keeper, clock: ManualClock
) -> None:
    for _ in range(3):
        await keeper.credentials()
        clock.advance(4000)

    assert keeper.secrets == ("token-3", "token-2")


def test_no_secret_is_shown_where_credentials_are_printed() -> None:
    assert "token" not in repr(Token("token-1", 1.0)).lower().replace("token(", "")

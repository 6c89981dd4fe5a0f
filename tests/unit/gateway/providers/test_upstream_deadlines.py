from gateway.errors import ProviderTimeout
from gateway.providers.base import AnswerStream, UpstreamCall
from gateway.providers.factory import build_providers
from gateway.providers.http import HttpClient
from gateway.settings.config import ProviderSettings
from gateway.types import HostedModel, ModelPrice
from tests.fakes.server import serve
from tests.fakes.upstream import Answer, ScriptedUpstream, chunk

HOSTED = HostedModel("fast", "acme", "acme-1", ModelPrice(1, 1))


async def test_a_stream_that_drips_past_its_limit_ends_and_is_no_failure_of_the_model(
    http: HttpClient,
) -> None:
    now_s = [100.0]
    received: list[bytes] = []

    async def read(stream: AnswerStream) -> str:
        try:
            async for data in stream:
                received.append(data)
                now_s[0] += 10.0
        except ProviderTimeout as error:
            return error.message
        return ""

    drops = Answer((chunk({"content": "a"}),) * 9, stalls=True, pause_s=0.01)
    async with serve(ScriptedUpstream(drops)) as url:
        table = ProviderSettings(base_url=f"{url}/v1", breaker_failures=1)
        provider = build_providers({"acme": table}, http, clock=lambda: now_s[0])["acme"]
        call = UpstreamCall(HOSTED, {"messages": []}, 1000.0, "req-1", stream_limit_s=30.0)
        async with provider.stream(call) as stream:
            said = await read(stream)
    assert said == "provider 'acme' did not end its answer within 30 s"
    assert len(received) <= 3
    assert provider.paused() == []

"""The callers' side beside chat: models, dry runs, feedback, health."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from pydantic import Field

from budget.in_flight import InFlight
from budget.ledger.amounts import NUSD_PER_USD
from gateway.access.auth import Authenticator, declares
from gateway.chat.service import ChatService
from gateway.chat.turn import new_id
from gateway.endpoints.access import tell
from gateway.endpoints.bodies import Body
from gateway.endpoints.conversations import ConversationEndpoints
from gateway.endpoints.errors import wire_of
from gateway.endpoints.guard import GuardedBody
from gateway.endpoints.models import info_of, page_of
from gateway.endpoints.openapi import add_description
from gateway.endpoints.stored_responses import add_stored_responses
from gateway.errors import InvalidRequest, ModelNotFound
from gateway.evaluation_log.conversations import ConversationStore
from gateway.evaluation_log.grades import GradeBook
from gateway.long_work import LongWork
from gateway.providers.responses_native import RESPONSE_PREFIX
from gateway.routing.plan import AUTO, RoutePlan
from gateway.settings.config import ProfileSettings
from gateway.settings.passthrough import PassthroughSettings
from gateway.types import Caller, HostedModel
from gateway.wire import parse_chat_request
from gateway.wires.messages import MESSAGES


class Feedback(Body):
    """A caller's grade of a past answer: a score, or a verifier that the answer is checked by."""

    id: Annotated[
        str,
        Field(
            min_length=1,
            max_length=256,
            description="Id of the answer, the decision or the request.",
        ),
    ]
    score: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    verifier: Annotated[
        dict[str, Any] | None,
        Field(
            description="Verifier that grades the answer, such as {kind: numeric, reference: 42}."
        ),
    ] = None
    grader: Annotated[str, Field(min_length=1, max_length=128)] = "caller"
    comment: Annotated[str | None, Field(max_length=4000)] = None


@dataclass(frozen=True, slots=True)
class PublicEndpoints:
    """Collaborators of the callers' endpoints.

    Attributes:
        models: Those that chat; `other_models` are of other kinds.
        passthrough: What the operator lets pass to providers.
        is_ready: Says whether a first request could be answered now, and if not, why.
    """

    service: ChatService
    authenticator: Authenticator
    grades: GradeBook
    conversations: ConversationStore
    models: Mapping[str, HostedModel]
    other_models: Mapping[str, HostedModel]
    profiles: Mapping[str, ProfileSettings]
    is_ready: Callable[[], tuple[bool, str]]
    max_body_bytes: int
    memory: InFlight
    long_work: LongWork
    passthrough: Collection[PassthroughSettings]

    def install(self, app: FastAPI) -> None:
        """Add the endpoints to `app`."""
        app.add_middleware(
            GuardedBody, self._key_of, self.max_body_bytes, self.memory, self.long_work
        )
        requires_key = declares("key", self._caller)
        endpoints = APIRouter()

        @endpoints.get("/v1/models", tags=["models"])
        async def list_models(
            request: Request, caller: Annotated[Caller, Depends(requires_key)]
        ) -> dict[str, Any]:
            """List what this key may name: the models, and the routing profiles as models."""
            named = self._named(caller)
            if wire_of(request.scope) is MESSAGES:
                chatting = [each for each in named if each[0] not in self.other_models]
                return page_of([info_of(*each) for each in chatting], request.query_params)
            return {"object": "list", "data": [_listed(*each) for each in named]}

        @endpoints.get("/v1/models/{name:path}", tags=["models"])
        async def show_model(
            name: str, request: Request, caller: Annotated[Caller, Depends(requires_key)]
        ) -> dict[str, Any]:
            """Show one model."""
            shown = info_of if wire_of(request.scope) is MESSAGES else _listed
            return shown(name, self._find(name, caller))

        responses = self.conversations.responses
        add_stored_responses(endpoints, requires_key, responses, self.memory, self.long_work)
        self._conversations().add_to(endpoints, requires_key)
        add_description(endpoints, requires_key, self.passthrough)

        @endpoints.post("/v1/route", tags=["routing"])
        async def explain_route(
            request: Request, caller: Annotated[Caller, Depends(requires_key)]
        ) -> dict[str, Any]:
            """Say how a chat request would be routed, without calling any model."""
            headers = dict(request.scope["headers"])
            body = await request.body()
            parsed = await self.long_work.read(len(body), parse_chat_request, body, headers)
            plan = await self.service.plan(parsed, caller, with_stderr=True)
            return explain(plan)

        @endpoints.post("/v1/feedback", tags=["routing"], status_code=202)
        async def grade(
            feedback: Feedback, caller: Annotated[Caller, Depends(requires_key)]
        ) -> dict[str, str | float]:
            """Grade a past answer; grades are what the router learns from."""
            return await self._grade(feedback, caller)

        self._add_probes(endpoints)
        app.include_router(endpoints)

    def _conversations(self) -> ConversationEndpoints:
        return ConversationEndpoints(
            store=self.conversations,
            memory=self.memory,
            long_work=self.long_work,
            new_id=lambda: new_id(self.service.rng),
        )

    def _add_probes(self, endpoints: APIRouter) -> None:
        public = declares("public", _nobody)

        @endpoints.get("/health", tags=["health"], dependencies=[Depends(public)])
        async def health() -> dict[str, str]:
            """Say that the process lives; asks nobody else."""
            return {"status": "ok"}

        @endpoints.get("/ready", tags=["health"], dependencies=[Depends(public)])
        async def ready(response: Response) -> dict[str, str]:
            """Say whether a request would be answered; 503 while not."""
            is_ready, reason = self.is_ready()
            response.status_code = 200 if is_ready else 503
            return {"status": "ok" if is_ready else "not ready", "reason": reason}

    async def _caller(self, request: Request) -> Caller:
        caller = await self._admit(dict(request.scope["headers"]))
        tell(request.scope, caller=caller)
        return caller

    async def _key_of(self, headers: Mapping[bytes, bytes]) -> str:
        return (await self._admit(headers)).key_id

    async def _admit(self, headers: Mapping[bytes, bytes]) -> Caller:
        return await self.authenticator.caller(headers)

    def _named(self, caller: Caller) -> list[tuple[str, HostedModel | ProfileSettings | None]]:
        """List what `caller` may name, and what each name stands for; None is `auto`."""
        every = (*self.models.values(), *self.other_models.values())
        hosted = [(m.name, m) for m in every if caller.may_use(m)]
        return [(AUTO, None), *self.profiles.items(), *hosted]

    def _find(self, name: str, caller: Caller) -> HostedModel | ProfileSettings | None:
        for known, model in self._named(caller):
            if known == name:
                return model
        raise ModelNotFound(
            f"No model {name!r} is served to this key; GET /v1/models lists them.", param="model"
        )

    async def _grade(self, feedback: Feedback, caller: Caller) -> dict[str, str | float]:
        given: dict[str, Any] = {
            "team_id": caller.team_id,
            "grader": f"{feedback.grader} ({caller.key_id})",
            "comment": feedback.comment,
        }
        score, verifier = feedback.score, feedback.verifier
        answer_id = feedback.id.removeprefix(RESPONSE_PREFIX)
        if score is not None and verifier is None:
            grade = await self.grades.record_grade(answer_id, score=score, **given)
        elif verifier is not None and score is None:
            grade = await self.grades.verify_answer(answer_id, verifier=verifier, **given)
        else:
            raise InvalidRequest("Give one of `score` and `verifier`.", param="score")
        return {"status": "accepted", "grade_id": grade.grade_id, "score": grade.score}


async def _nobody() -> None:
    """Authenticate nobody: the endpoint is public on purpose."""


def _listed(name: str, model: HostedModel | ProfileSettings | None) -> dict[str, Any]:
    """Describe a model as OpenAI does."""
    if isinstance(model, HostedModel):
        return _hosted(model)
    paid = None if model is None else model.willingness_to_pay_usd
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "waypost",
        "waypost": {"routed": True, "willingness_to_pay_usd": paid},
    }


def _hosted(model: HostedModel) -> dict[str, Any]:
    per_usd = NUSD_PER_USD
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": model.provider,
        "waypost": {
            "routed": False,
            "input_usd_per_mtok": model.price.input_nusd_per_mtok / per_usd,
            "output_usd_per_mtok": model.price.output_nusd_per_mtok / per_usd,
            **_abilities(model),
        },
    }


def _abilities(model: HostedModel) -> dict[str, Any]:
    """Say what a model can, and where it is asked if that is no chat."""
    if model.kind == "chat":
        return {"capabilities": asdict(model.capabilities)}
    context_tokens = model.capabilities.context_tokens
    return {"kind": model.kind, "capabilities": {"context_tokens": context_tokens}}


def explain(plan: RoutePlan) -> dict[str, Any]:
    """Render a plan as `/v1/route` answers it."""
    allotment = plan.allotment
    return {
        "object": "waypost.route",
        "model": plan.models[0].name,
        "provider": plan.models[0].provider,
        "fallbacks": [model.name for model in plan.models[1:]],
        "reason": plan.reason,
        "propensity": plan.propensity,
        "profile": plan.profile,
        "willingness_to_pay_usd": plan.willingness_to_pay_usd,
        "router_version": plan.router_version,
        "encoder": plan.encoder_id,
        "familiarity": plan.familiarity,
        "prompt_tokens": plan.prompt_tokens,
        "candidates": [
            asdict(candidate) | {"quality_stderr": stderr}
            for candidate, stderr in zip(
                plan.candidates, plan.quality_stderr or repeat(None), strict=False
            )
        ],
        **({} if allotment is None else {"turn_budget": allotment.explain()}),
    }

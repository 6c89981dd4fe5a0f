"""The loop, one step at a time: watch what serves, train when there is enough, judge, activate.

READ `Learner.step` FIRST. The memory of the loop is the table of events; what serves is decided by
the store of routers alone. A step acts first and says so afterwards: whoever is killed in between
leaves either nothing or a router that serves, and the next step notes what it finds.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy.exc import SQLAlchemyError

from gateway.artifacts.learning_file import LearningFile
from gateway.learning.canary import describe, judge_canary, why_it_ends
from gateway.learning.events import ACCEPTED, GRADED_UNTIL, LEARNER, Event, LearningEvents, What
from gateway.learning.evidence import Evidence, fingerprint, no_answers
from gateway.learning.operating import former_of, let_serve
from gateway.learning.serving import Incumbent, Serving
from gateway.learning.training import train_router
from gateway.learning.wording import explain_look, explain_training, figures_of
from gateway.routing.canary import SHARE, STATES, beginning, kept
from gateway.settings.learning import LearningSettings
from gateway.storage.lease import Lease
from router_models.artifacts.artifact import load
from router_models.artifacts.assessment import Assessment, Outcome
from router_models.artifacts.registry import ModelRegistry
from router_models.artifacts.router import Router
from router_models.errors import ArtifactRejected, InvalidEvaluations
from router_models.evaluation.acceptance import (
    AcceptanceCriteria,
    Decision,
    Float64,
    decide,
    find_invalid_predictions,
)
from router_models.evaluation.anytime import Look, differences, look
from router_models.evaluation.fixed_choice import beside_fixed_choice
from router_models.evaluation.held_out import HeldOut
from router_models.evaluation.log_rows import LoggedRows
from router_models.training.recency import find_changes

CANDIDATE: Final = "candidate"
SERVING: Final[tuple[What, ...]] = ("activated", "rolled_back")
LEAST_WATCHED: Final = 100
"""Answers after which the watch says for the first time how it goes."""
MORE_GRADES: Final = 1.02
KEPT: Final = 10
"""Routers that were judged and do not serve, kept in the store."""

_log = logging.getLogger(__name__)


class LeaseLost(Exception):
    """Another process learns by now, so this one must not change what serves."""


@dataclass(frozen=True, slots=True)
class Learner:
    """Takes the steps of one gateway's loop.

    Attributes:
        lease: Asked again before anything changes that serves.
        prices: Quality per USD at the operating points that callers use.
        willingness_to_pay_usd: Of the default profile: what the watch and the figures in USD are
            made at.
        clock: Tells the time, with a zone.
        looked: Grades that there were at the last look at a router, by the time it began to serve.
    """

    settings: LearningSettings
    events: LearningEvents
    evidence: Evidence
    serving: Serving
    lease: Lease
    prices: Float64
    willingness_to_pay_usd: float
    clock: Callable[[], datetime]
    seed: int = 0
    looked: dict[datetime, int] = field(default_factory=dict)

    def step(self, *, is_forced: bool = False) -> tuple[Event, ...]:
        """Do what is due, and return what was done.

        Args:
            is_forced: Train on new rows however few they are.

        Raises:
            SQLAlchemyError: The database does not answer.
        """
        done: list[Event] = []
        self.evidence.look_anew()

        def note(what: What, why: str, **fields: Any) -> None:
            if what == "activated":
                former = former_of(self.serving.store, fields["router_version"])
                fields["figures"] = fields.get("figures", {}) | kept(
                    self.settings.kept_share, former
                )
            event = Event(self.clock(), LEARNER, what, why, **fields)
            self.events.add(event)
            done.append(event)
            _log.info("%s %s: %s", what, event.router_version or "", why)

        try:
            self._find_what_serves(note)
            if not self._has_returned(note) and not self._has_canary(note):
                self._learn(note, is_forced=is_forced)
        except LeaseLost:
            note("failed", "another process learns by now, so this one changed nothing")
        if done:
            self._publish()
        return tuple(done)

    def _find_what_serves(self, note: Callable[..., None]) -> None:
        """Note a router that was activated without a word, by an operator or just before a kill."""
        active = self.serving.version
        last = self.events.latest(*SERVING)
        noted = None if last is None else _serving_after(last)
        if active is not None and active != noted:
            why = "it was found active: an operator activated it, or a step ended before it said so"
            former = former_of(self.serving.store, active)
            note("activated", why, router_version=active, former_version=former)

    def _has_returned(self, note: Callable[..., None]) -> bool:
        """Watch what serves; say once, and not at every look, that it cannot be watched."""
        try:
            return self._watch(note)
        except (ArtifactRejected, InvalidEvaluations) as error:
            last, why = self.events.latest("watched"), f"it cannot be watched: {error}"
            if last is None or last.why != why:
                active = self.serving.version
                note("watched", why, router_version=active, figures={"answers": 0})
            return False

    def _watch(self, note: Callable[..., None]) -> bool:
        """Roll back what serves if it does worse than the one before; returns whether it did."""
        begun = self.events.latest("activated")
        active = self.serving.version
        if begun is None or active is None or begun.router_version != active:
            return False
        new = self.serving.open(active)
        former = self.serving.open(former_of(self.serving.store, active))
        if new is None or former is None or self.serving.is_prior(new):
            return False  # there is nothing to compare with, and nothing to return to
        if not self._has_news(begun.at):
            return False
        choices = self.evidence.choices_since(begun.at, is_shared=SHARE in begun.figures)
        if not len(choices.answered):
            return False
        compared = differences(
            new, former, choices, no_answers(choices), self.willingness_to_pay_usd
        )
        found = look(compared, self.settings.tolerance)
        said = {
            "why": explain_look(found, former.version, self.settings.watch_risk),
            "figures": figures_of(found),
            "router_version": active,
            "former_version": former.version,
        }
        if not found.is_worse(self.settings.watch_risk):
            if _is_news(found, self.events.latest("watched", version=active), begun):
                note("watched", **said)
            return False
        self._keep_lease()
        self.serving.store.rollback()
        note("rolled_back", **said)
        return True

    def _has_canary(self, note: Callable[..., None]) -> bool:
        """Look at the canary; while there is one, nothing else is trained."""
        stage = self.events.latest(*STATES)
        if stage is None or stage.what != "canary" or stage.router_version is None:
            return False
        new, former = self.serving.open(stage.router_version), self.serving.router()
        verdict = why_it_ends(stage, new, former, self.settings)
        if verdict is None and new and former and self._has_news(stage.at):
            choices = self.evidence.choices_since(stage.at, is_shared=True)
            paid_usd = self.willingness_to_pay_usd
            verdict = judge_canary(stage, new, former, choices, self.settings, paid_usd)
        if verdict is not None:
            self._keep_lease()
            if verdict.what == "activated":
                let_serve(self.serving.store, stage.router_version, stage.former_version)
            versions = {name: getattr(stage, name) for name in ("router_version", "former_version")}
            note(verdict.what, verdict.why, figures=verdict.figures, **versions)
        return True

    def _has_news(self, since: datetime) -> bool:
        """Whether there are enough more grades than at the last look: each look reads them all."""
        grades, _ = self.evidence.new_grades(since)
        before = self.looked.get(since)
        if before is not None and grades < MORE_GRADES * before:
            return False
        self.looked[since] = grades
        return True

    def _learn(self, note: Callable[..., None], *, is_forced: bool) -> None:
        last = self.events.latest_attempt()
        until = None if last is None else datetime.fromisoformat(last.figures[GRADED_UNTIL])
        new, graded_until = self.evidence.new_grades(until)
        if not self._is_due(new, last, is_forced=is_forced):
            if graded_until is None and self.events.latest("skipped") is None:
                note("skipped", "there is no graded answer yet: see the guide `learn-by-itself`")
            return
        figures: dict[str, Any] = {"new_grades": new}
        if graded_until is not None:
            figures[GRADED_UNTIL] = graded_until.isoformat()
        try:
            self._train(note, figures)
        except (LeaseLost, SQLAlchemyError):
            raise
        except (InvalidEvaluations, ArtifactRejected) as error:
            note("failed", f"no router was made: {error}", figures=figures)
        except Exception as error:  # noqa: BLE001
            # Whatever a training dies of, what serves goes on, and the loop too.
            _log.exception("the training failed")
            why = f"no router was made: {type(error).__name__}: {error}"
            note("failed", why, figures=figures)

    def _is_due(self, new: int, last: Event | None, *, is_forced: bool) -> bool:
        if new == 0:
            return False
        if is_forced or new >= self.settings.min_new_grades:
            return True
        since = self.evidence.first_graded_at() if last is None else last.at
        waits = timedelta(hours=self.settings.interval_h)
        return since is not None and self.clock() - since >= waits

    def _train(self, note: Callable[..., None], figures: dict[str, Any]) -> None:
        rows = self.evidence.rows()
        if len(rows.models) < 2:
            named = rows.models[0] if rows.models else "no model"
            why = f"{named} alone has graded answers, so there is nothing to choose between"
            note("skipped", f"{why}: see routing.exploration", figures=figures)
            return
        figures["rows_sha256"] = fingerprint(rows)
        if self._was_tried(figures["rows_sha256"]):
            note("skipped", "these very rows were learned from before", figures=figures)
            return
        changes, names = find_changes(rows, self.seed), ModelRegistry()
        learned = changes.fading(rows)
        trained = train_router(
            learned.evaluations("train", rows.models, names),
            learned.evaluations("val", rows.models, names),
            self.settings.estimator,
            self.seed,
            self.serving.encoder,
            reads_requests=True,
            now=self.clock(),
        )
        version = self.serving.store.put_own(trained.content).version
        made = figures | {"training": trained.training, **trained.provenance, **changes.figures}
        why = explain_training(trained, changes.half_lives)
        note("trained", why, router_version=version, figures=made)
        router, now = load(trained.content, self.serving.encoder), self.clock()
        incumbent = self.serving.incumbent(rows, now)
        held_out = HeldOut.of(self._rows_to_judge_on(changes.since(rows)), self.prices)
        self._judge(note, router, incumbent, held_out, figures)

    def _was_tried(self, rows_sha256: str) -> bool:
        last = self.events.latest_attempt()
        return last is not None and last.figures.get("rows_sha256") == rows_sha256

    def _judge(
        self,
        note: Callable[..., None],
        router: Router,
        incumbent: Incumbent,
        held_out: HeldOut,
        figures: dict[str, Any],
    ) -> None:
        """Say whether the router may serve, and let it; the rules are the federation's."""
        active = incumbent.router
        nonsense = find_invalid_predictions(router, held_out.answers.embeddings)
        if nonsense is not None:
            decision = Decision(CANDIDATE, is_accepted=False, reason=nonsense, figures={})
        else:
            criteria = AcceptanceCriteria(tolerance=self.settings.tolerance)
            rng = np.random.default_rng(self.seed)
            decision = decide({CANDIDATE: router}, active, held_out, criteria, rng)
        single = beside_fixed_choice(
            router, held_out.choices, held_out.prior, self.willingness_to_pay_usd
        )
        figures = figures | {"acceptance": dict(decision.figures)}
        why = decision.reason
        if single is not None:
            gain = single.gain_usd
            figures["fixed_choice"] = {
                "model": single.model,
                "gain_usd_per_1000_turns": [gain.value, gain.low, gain.high],
                "is_enough": single.is_enough,
            }
            why = f"{why}. {single}"
        decision = replace(decision, reason=why)
        self._carry_out(note, router.version, decision, incumbent, figures)

    def _rows_to_judge_on(self, rows: LoggedRows) -> LoggedRows:
        """After a router was rolled back, those since it began to serve.

        The older ones had spoken for it, and would speak for the next one like it.
        """
        last = self.events.latest(*SERVING)
        if last is None or last.what != "rolled_back":
            return rows
        begun = self.events.latest("activated", "canary", version=last.router_version)
        return rows if begun is None else self.evidence.rows(begun.at)

    def _carry_out(
        self,
        note: Callable[..., None],
        version: str,
        decision: Decision,
        incumbent: Incumbent,
        figures: dict[str, Any],
    ) -> None:
        """Store the verdict, and let an accepted router serve, or wait for an operator."""
        way = self.settings.on_acceptance
        former = None if incumbent.router is None else incumbent.router.version
        if decision.is_accepted and incumbent.artifact is not None:
            former = self.serving.store.put_own(incumbent.artifact).version
        if way == "canary" and incumbent.router is None:
            way = "activate"  # there is nothing that it could share the turns with
        activates = decision.is_accepted and way == "activate"
        outcome: Outcome = "activated" if activates else "candidate"
        if activates:
            self._keep_lease()
            let_serve(self.serving.store, version, former)
        made = Assessment(outcome, decision.reason, self.clock(), decision.figures)
        self.serving.store.note(version, made)
        what: What = "refused"
        if decision.is_accepted:
            what = ACCEPTED[way]
        if what == "canary":
            self._keep_lease()
            self._serve_beside_canary(note, former)
            share = self.settings.canary_shares[0]
            figures = figures | beginning(share)
            decision = replace(decision, reason=f"{describe(share)}: {decision.reason}")
        versions = {"router_version": version, "former_version": former}
        note(what, decision.reason, figures=figures, **versions)
        self.serving.store.prune(KEPT)

    def _serve_beside_canary(self, note: Callable[..., None], former: str | None) -> None:
        """Activate what served so far, though nobody activated it: it must not change meanwhile."""
        if former is not None and former != self.serving.version:
            self.serving.store.activate(former)
            why = "it served so far, and stays as it is while a canary is compared with it"
            note("activated", why, router_version=former)

    def _keep_lease(self) -> None:
        """Make sure that nobody else learns: this process may have slept for an hour.

        Raises:
            LeaseLost: Somebody does.
        """
        if not self.lease.take():
            raise LeaseLost

    def _publish(self) -> None:
        try:
            LearningFile(self.serving.store.folder).write(self.events.count())
        except OSError as error:
            _log.warning("the metrics of the learner are out of date: %s", error)


def _serving_after(last: Event) -> str | None:
    """Return what serves after an event, as far as it knows."""
    return last.router_version if last.what == "activated" else last.former_version


def _is_news(found: Look, last: Event | None, begun: Event) -> bool:
    """Whether a look is worth a row: each time that there are twice as many answers."""
    is_first = last is None or last.at < begun.at
    before = LEAST_WATCHED / 2 if is_first or last is None else last.figures["answers"]
    return found.answers >= 2 * before

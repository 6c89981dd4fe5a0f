"""Three sites tune a model as real processes; a node and the coordinator are killed on the way."""

import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from federation.coordinator.checkpoint import read
from federation.deployment.sessions import SessionRecord
from federation.reasoner.file_states import FileStates
from federation.reasoner.messages import ADAPTERS, to_table
from gateway.artifacts.store import adapter_store
from gateway.settings.config import GatewaySettings
from router_models.artifacts.adapter import load
from tests.fakes.digits import library_tokenizer
from tests.fakes.federation import PATIENCE_S, Daemon, Federation, federation_in
from tests.fakes.language_models import tiny_model
from tests.fakes.reasoners import TOKENIZER, prompts_of, public_prompts
from tests.fakes.turns import until

pytestmark = pytest.mark.xdist_group("tuning federation")

NAMES = ("acme", "borealis", "cirrus")
KILLED = NAMES[0]
COORDINATOR = """
[federation.coordinator.reasoner]
model = "{model}"
public_prompts = "{public}"
rounds = 2
phase_timeout_s = 600

[federation.coordinator.reasoner.training]
lora_rank = 2
lora_targets = ["q_proj", "v_proj"]
group_size = 6
prompts_per_step = 3
steps_per_round = 6
public_every = 4
max_response_tokens = 6
max_new_tokens = 6
learning_rate = 1e-3
"""
NODE = """
poll_s = 0.5
[federation.node.reasoner]
model = "{model}"
prompts = "{prompts}"
least_prompts = 6
"""


@dataclass(frozen=True, eq=False)
class Aftermath:
    """What two turbulent sessions left behind.

    Attributes:
        first: A node was killed in its first phase, and started again.
        second: The coordinator was killed after its first round.
    """

    first: SessionRecord
    second: SessionRecord
    folder: Path


def write_prompts(path: Path, prompts) -> Path:
    path.write_text("".join(json.dumps(to_table(prompt)) + "\n" for prompt in prompts))
    return path


def lay_out(federation: Federation) -> tuple[Daemon, dict[str, Daemon]]:
    """Lay out the coordinator and three nodes around one small model."""
    model = federation.folder / "model"
    tiny_model(seed=3, n_tokens=len(TOKENIZER.get_vocab())).save_pretrained(model)
    library_tokenizer(TOKENIZER.n_digits).save_pretrained(model)
    public = write_prompts(federation.folder / "public.jsonl", public_prompts())
    more = COORDINATOR.format(model=model, public=public)
    coordinator = federation.lay_out_coordinator(quorum=2, more=more)
    nodes = {}
    for index, name in enumerate(NAMES):
        private = prompts_of(f"private-{name}", f"{index}{index + 1}")
        prompts = write_prompts(federation.folder / f"{name}.jsonl", private)
        data = f'data_dir = "{federation.folder / name}"\n[embedded]\nenabled = false\n'
        settings = NODE.format(model=model, prompts=prompts)
        nodes[name] = federation.lay_out_node(name, data, settings)
    return coordinator, nodes


def states_of(federation: Federation, name: str, phase: int) -> list[Path]:
    """Where a node keeps how far it has come in a phase."""
    states = federation.folder / name / "federation" / "reasoner"
    return list(states.glob(f"*/{phase}.state"))


def phase_of(federation: Federation, session: SessionRecord) -> int:
    """The phase that the coordinator has finished."""
    data = federation.checkpoint(session)
    return 0 if data is None else int(read(data)[0]["phase"])


async def without_a_node(federation: Federation, node: Daemon) -> SessionRecord:
    """Kill the node while it takes its first steps, and start it again."""
    session = federation.sessions.ask("test", datetime.now(UTC), task="reasoner")
    await until(lambda: states_of(federation, KILLED, 1) != [], PATIENCE_S)
    await node.end(signal.SIGKILL)
    await node.start()
    return await federation.ended(session)


async def without_the_coordinator(federation: Federation, coordinator: Daemon) -> SessionRecord:
    """Kill the coordinator once it has aggregated adapters, and start it again."""
    session = federation.sessions.ask("test", datetime.now(UTC), task="reasoner")
    await until(lambda: phase_of(federation, session) >= 2, PATIENCE_S)
    await coordinator.end(signal.SIGKILL)
    await coordinator.start()
    return await federation.ended(session)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aftermath(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Aftermath]:
    async with federation_in(tmp_path_factory.mktemp("reasoner")) as federation:
        coordinator, nodes = lay_out(federation)
        for daemon in (coordinator, *nodes.values()):
            await daemon.start()
        await federation.connected(*NAMES)
        first = await without_a_node(federation, nodes[KILLED])
        await until(lambda: federation.connections(KILLED) == 2, PATIENCE_S)
        second = await without_the_coordinator(federation, coordinator)
        yield Aftermath(first, second, federation.folder)


def told(session: SessionRecord, round_: int) -> set[str]:
    """Sites whose adapters counted in a round."""
    return set(session.report["figures"][str(round_)])


def steps_of(session: SessionRecord) -> list[list[dict[str, float]]]:
    """Figures of every site's steps in every round."""
    return [own for told in session.report["figures"].values() for own in told.values()]


def test_a_round_ends_without_a_node_that_was_killed_in_it(aftermath):
    assert aftermath.first.state == "finished", aftermath.first.reason
    assert told(aftermath.first, 1) == set(NAMES) - {KILLED}


def test_a_node_that_was_killed_takes_part_again(aftermath):
    assert told(aftermath.second, 1) == set(NAMES)


def test_a_session_goes_on_after_its_coordinator_was_killed_in_it(aftermath):
    assert aftermath.second.state == "finished", aftermath.second.reason
    assert aftermath.second.attempts == 2
    assert min(each["round"] for each in aftermath.second.report["rounds"]) >= 3


def test_every_site_keeps_the_adapters_as_a_candidate(aftermath):
    report = aftermath.second.report
    assert {v["outcome"] for v in report["verdicts"].values()} == {"candidate"}
    for name in report["verdicts"]:
        adapter = load(
            adapter_store(GatewaySettings(data_dir=aftermath.folder / name)).read(report["version"])
        )
        assert adapter.manifest.base_model == str(aftermath.folder / "model")


def test_what_a_killed_node_left_on_disk_can_be_read(aftermath):
    (folder,) = (aftermath.folder / KILLED / "federation" / "reasoner").iterdir()
    states = FileStates(folder)
    kept = [states.read(int(path.stem)) for path in folder.iterdir()]
    assert kept
    assert all(state is not None for state in kept)


def test_sites_learned_from_each_others_answers(aftermath):
    steps = steps_of(aftermath.second)
    assert {len(own) for own in steps} == {6}
    assert sum(step["answers_swapped"] for own in steps for step in own) > 0


def test_adapters_take_fewer_bytes_than_the_model(aftermath):
    report = aftermath.second.report
    sent = [each for each in report["rounds"] if each["exchange"] == ADAPTERS]
    assert 0 < sent[-1]["bytes_received"] < len(NAMES) * report["full_model_bytes"]

"""What coordinator and nodes do for a session that tunes a model, all in this process."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flwr.clientapp import ClientApp

from benchmarks.federation_simulation.in_process import InProcessGrid
from federation.deployment.sessions import SessionStore
from federation.errors import FederationError, PlanRefused, QuorumMissing
from federation.node.client_app import build_reasoner_app
from federation.reasoner.messages import to_table
from gateway.artifacts.store import adapter_store
from gateway.federation.paths import ADAPTER
from gateway.federation.reasoner_node import collect, open_prompt_site
from gateway.federation.reasoner_plan import check_tuning
from gateway.federation.reasoner_sessions import tune
from gateway.federation.router_sessions import CHECKPOINT, refuse_tuning
from gateway.settings.config import GatewaySettings, load_settings
from gateway.storage.engines import opened
from tests.fakes.digits import library_tokenizer
from tests.fakes.language_models import tiny_model
from tests.fakes.reasoners import TOKENIZER, prompts_of, public_prompts
from tests.fakes.sites import silence

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

NOW = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)
TRAINING = """
lora_rank = 2
lora_targets = ["q_proj"]
group_size = 4
prompts_per_step = 3
steps_per_round = 2
public_every = 2
max_response_tokens = 6
max_new_tokens = 6
"""
SETTINGS = """
data_dir = "{data}"
[federation.coordinator.reasoner]
model = "{model}"
public_prompts = "{folder}/public.jsonl"
rounds = 1
[federation.coordinator.reasoner.training]
{training}
[federation.node]
name = "{name}"
[federation.node.reasoner]
model = "{model}"
prompts = "{folder}/{name}.jsonl"
least_prompts = 6
"""


def write_prompts(path: Path, prompts) -> None:
    path.write_text("".join(json.dumps(to_table(prompt)) + "\n" for prompt in prompts))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model(seed=3, n_tokens=len(TOKENIZER.get_vocab())).save_pretrained(folder)
    library_tokenizer(TOKENIZER.n_digits).save_pretrained(folder)
    return folder


@pytest.fixture
def settings_of(tmp_path, model):
    """Makes the settings of an organisation, with prompts of its own."""
    write_prompts(tmp_path / "public.jsonl", public_prompts())

    def make(name: str, model: Path = model, training: str = TRAINING) -> GatewaySettings:
        write_prompts(tmp_path / f"{name}.jsonl", prompts_of(name, "12"))
        file = tmp_path / f"{name}.toml"
        data = tmp_path / name
        table = {"data": data, "folder": tmp_path, "name": name}
        file.write_text(SETTINGS.format(model=model, training=training, **table))
        return load_settings(file, {})

    return make


@pytest.fixture
def store(tmp_path) -> SessionStore:
    return SessionStore(tmp_path / "sessions")


def node_of(settings: GatewaySettings) -> ClientApp:
    with opened(settings) as engine:
        site = open_prompt_site(settings, engine)
        prompts = site.collect()
    site.collect = lambda: prompts
    return build_reasoner_app(site)


def test_nodes_tune_the_model_of_the_settings(settings_of, store):
    everybody = [settings_of(name) for name in ("acme", "borealis")]
    session = store.ask("operator", NOW, task="reasoner")
    grid = InProcessGrid({n: node_of(each) for n, each in enumerate(everybody, start=1)})
    report = tune(everybody[0], grid, session, store)
    assert report["sites"] == ["acme", "borealis"]
    assert {len(steps) for steps in report["figures"]["1"].values()} == {2}
    assert {verdict["outcome"] for verdict in report["verdicts"].values()} == {"candidate"}
    sealed = (store.folder_of(session) / ADAPTER).read_bytes()
    for settings in everybody:
        assert adapter_store(settings).read(report["version"]) == sealed
    received = report["rounds"][-1]["bytes_received"]
    assert 0 < received < 2 * report["full_model_bytes"]
    ended = store.end(store.begin(session, run_id=1), NOW, report=report, reason=None)
    assert store.read(ended.id).report["figures"].keys() == {"1"}


def test_what_sites_sent_for_a_session_that_failed_is_not_kept(settings_of, store):
    everybody = [settings_of(name) for name in ("acme", "borealis")]
    session = store.ask("operator", NOW, task="reasoner")
    nodes = {n: node_of(each) for n, each in enumerate(everybody, start=1)}
    with pytest.raises(QuorumMissing):
        tune(everybody[0], InProcessGrid(nodes, {2: fails_at("2")}), session, store)
    assert not (store.folder_of(session) / CHECKPOINT).exists()
    rounds = store.read(session.id).report["rounds"]
    assert [each["silent"] for each in rounds] == [[], ["borealis"]]


def fails_at(phase: str):
    def befall(instruction, reply):
        return silence(instruction, reply) if instruction.metadata.group_id == phase else reply

    return befall


def test_a_model_that_cannot_be_loaded_fails_the_session_with_its_reason(
    settings_of, store, tmp_path
):
    (tmp_path / "empty").mkdir()
    settings = settings_of("acme", model=tmp_path / "empty")
    session = store.ask("operator", NOW, task="reasoner")
    with pytest.raises(FederationError, match=r"reasoner\.model: .*cannot be loaded"):
        tune(settings, InProcessGrid({}), session, store)


def test_public_steps_without_public_prompts_stop_the_coordinator(settings_of, tmp_path):
    settings = settings_of("acme")
    check_tuning(settings)
    (tmp_path / "public.jsonl").write_text("\n")
    with pytest.raises(FederationError, match="public_prompts: required"):
        check_tuning(settings)


def test_a_public_prompt_that_cannot_be_used_stops_the_coordinator(settings_of, tmp_path):
    settings = settings_of("acme")
    (tmp_path / "public.jsonl").write_text('{"query_id": "a", "text": "?"}\n')
    with pytest.raises(FederationError, match=r"public\.jsonl:1: verifier"):
        check_tuning(settings)


def test_a_misspelt_setting_of_tuning_stops_the_coordinator(settings_of):
    with pytest.raises(TypeError, match="lora_rang"):
        check_tuning(settings_of("acme", training="lora_rang = 2"))


def test_a_node_whose_prompts_cannot_be_read_takes_no_part(settings_of, tmp_path):
    settings = settings_of("acme")
    (tmp_path / "acme.jsonl").write_text("not JSON\n")
    with opened(settings) as engine, pytest.raises(PlanRefused, match=r"acme\.jsonl:1: not JSON"):
        collect(settings, engine)


def test_a_node_reads_the_prompts_of_its_file(settings_of):
    settings = settings_of("acme")
    with opened(settings) as engine:
        assert [prompt.id for prompt in collect(settings, engine)][:2] == ["acme-0", "acme-1"]


def test_a_coordinator_without_a_model_says_so():
    with pytest.raises(FederationError, match=r"federation\.coordinator\.reasoner\.model"):
        refuse_tuning()

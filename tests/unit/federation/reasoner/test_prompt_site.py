from dataclasses import replace

import numpy as np
import pytest

from benchmarks.federation_simulation.reasoner import simulate
from federation.errors import PlanRefused
from federation.reasoner.base import Base
from federation.reasoner.prompt_site import PromptSite
from router_models.artifacts.adapter import BaseModel
from tests.fakes.language_models import tiny_model
from tests.fakes.reasoners import (
    SETTINGS,
    TOKENIZER,
    prompts_of,
    public_prompts,
    reasoner,
    reasoner_plan,
    reasoner_sites,
)

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


def loaded() -> Base:
    model = tiny_model(seed=3, n_tokens=len(TOKENIZER.get_vocab()))
    return Base.from_model(BaseModel("tiny", reasoner().name.sha256), model, TOKENIZER)


@pytest.fixture
def kept():
    return []


@pytest.fixture
def site(tmp_path, kept):
    def keep(artifact, signature):
        kept.append(artifact)
        return "lora-1"

    prompts = prompts_of("private-0", "01")
    return PromptSite("site-0", loaded, lambda: prompts, 6, tmp_path, keep)


def test_says_of_itself_no_more_than_it_must(site):
    profile = site.profile()
    assert (profile.name, profile.prompts) == ("site-0", 8)
    assert profile.base_sha256 == reasoner().name.sha256
    assert profile.tokenizer_sha256 == reasoner().name.tokenizer_sha256


def test_takes_no_part_with_too_few_prompts(site):
    site.least_prompts = 7
    with pytest.raises(
        PlanRefused, match=r"has 6 private prompts; federation\.node\.reasoner\.least_prompts is 7"
    ):
        site.profile()


def test_reads_the_prompts_again_when_a_session_begins(site):
    grown = prompts_of("private-0", "01", 9)
    site.profile()
    site.collect = lambda: grown
    assert len(site.prompts()) == 6
    site.profile()
    assert len(site.prompts()) == 9


def test_a_node_that_was_restarted_reads_the_prompts_without_being_greeted(site):
    assert len(site.prompts()) == 6


def test_loads_the_model_once_and_adapts_it_anew_for_each_session(site):
    loads = []
    load = site.load

    def counted():
        loads.append(1)
        return load()

    site.load = counted
    first = site.learner(reasoner_plan()).model
    assert site.learner(reasoner_plan()).model is first
    wider = reasoner_plan({"lora_rank": 3}, session="second")
    second = site.learner(wider)
    assert {a.shape[0] for name, a in second.weights().items() if "lora_A" in name} == {3}
    assert len(loads) == 1


def test_starts_from_the_adapters_of_the_session():
    base = loaded()
    for name, array in base.initial(SETTINGS, seed=0).items():
        np.testing.assert_array_equal(array, reasoner().initial[name])
    again = base.initial(SETTINGS, seed=1)
    assert any((array != reasoner().initial[name]).any() for name, array in again.items())


def test_a_session_with_states_on_disk_gives_the_same_bits_as_one_in_memory(site, kept):
    plan = reasoner_plan(rounds=1)
    others = reasoner_sites()
    private = replace(others[0], private=site.collect())
    initial = reasoner().initial
    on_disk = simulate([site, *others[1:]], plan, public_prompts(), initial)
    in_memory = simulate([private, *reasoner_sites()[1:]], plan, public_prompts(), initial)
    assert on_disk.artifact == in_memory.artifact
    assert kept == [on_disk.artifact]
    assert on_disk.report.verdicts["site-0"].version == "lora-1"

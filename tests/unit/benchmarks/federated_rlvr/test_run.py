import json
from dataclasses import replace

import pytest

from benchmarks.federated_rlvr.experiment import Lab
from benchmarks.federated_rlvr.protocol import Config
from benchmarks.federated_rlvr.run import _go_on
from benchmarks.federated_rlvr.tasks import Sizes
from tests.fakes.reasoners import SETTINGS, TOKENIZER, reasoner

# peft asks a transformers model by a name that transformers 5 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


def lab(settings):
    tiny = reasoner()
    config = Config(settings, rounds=1, measured_after=(1,), sizes=Sizes(6, 3, 4))
    return Lab(config, tiny.model, TOKENIZER, tiny.name, tiny.initial, 1000)


@pytest.fixture
def results(tmp_path):
    file = tmp_path / "results.json"
    begun = _go_on(file, lab(SETTINGS))
    file.write_text(json.dumps({**begun, "runs": {"1": {"base": {}}}}))
    return file


def test_a_run_goes_on_with_what_was_measured(results):
    assert _go_on(results, lab(SETTINGS))["runs"] == {"1": {"base": {}}}


def test_results_of_other_settings_are_not_mixed_in(results):
    with pytest.raises(SystemExit, match="of other settings"):
        _go_on(results, lab(replace(SETTINGS, learning_rate=1.0)))

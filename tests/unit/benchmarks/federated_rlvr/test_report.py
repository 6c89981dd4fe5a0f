import numpy as np
import pytest

from benchmarks.federated_rlvr.protocol import ARMS, BALANCED, BASE, FEDAVG, LOCAL
from benchmarks.federated_rlvr.report import render, write

KINDS = ("larger", "sum")


def marks(seed, chance):
    rng = np.random.default_rng(seed)
    return {kind: "".join(map(str, rng.binomial(1, chance, 10))) for kind in KINDS}


def run(seed, names, chance):
    sums = ("steps", "prompts", "prompts_used", "tokens_generated", "answers_swapped", "cpu_s")
    return {
        "marks": {after: {name: marks(seed, chance) for name in names} for after in ("2", "4")},
        **dict.fromkeys((*sums, "bytes_down", "bytes_up"), 64.0),
    }


def runs(seed, arms):
    found = {arm: run(seed, KINDS if arm == LOCAL else ["together"], 0.8) for arm in arms}
    return {BASE: {"marks": {"0": {"together": marks(seed, 0.1)}}}, **found}


def results(*seeds):
    return {
        "parameters": 1000,
        "settings": {"lora_targets": ["q_proj"], "learning_rate": 0.001},
        "runs": {str(seed): runs(seed, arms) for seed, arms in enumerate(seeds)},
    }


def test_every_table_has_its_place():
    assert "<!--" not in render(results(ARMS, ARMS))


def test_an_arm_that_is_not_measured_yet_has_no_row():
    text = render(results(ARMS, [LOCAL, FEDAVG]))
    assert f"| {BALANCED} - {FEDAVG} |" in text
    assert f"| {FEDAVG} - {BALANCED} |" in text
    assert f"\n| {BALANCED} " not in render(results([LOCAL, FEDAVG]))


@pytest.mark.parametrize(("arms", "seeds"), [((ARMS, [FEDAVG]), 1), ((ARMS, ARMS), 2)])
def test_a_difference_says_how_many_seeds_have_both(arms, seeds):
    row = next(
        line
        for line in render(results(*arms)).splitlines()
        if line.startswith(f"| {BALANCED} - {FEDAVG} |")
    )
    assert row.endswith(f"| {seeds} |")


def test_the_picture_is_drawn_of_what_is_there(tmp_path):
    write(results(ARMS, [FEDAVG]), tmp_path)
    assert (tmp_path / "accuracy.png").stat().st_size > 1000

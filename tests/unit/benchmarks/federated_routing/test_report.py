import pytest

from benchmarks.federated_routing.alpha import measure_alpha, read_choice
from benchmarks.federated_routing.arms import AnySettings
from benchmarks.federated_routing.report import render, write
from federation.learning.settings import FederatedKMeansSettings, FederatedMlpSettings
from router_models.training.settings import KMeansSettings, MlpSettings
from tests.fakes.evaluations import made_up

pytestmark = pytest.mark.xdist_group("benchmark of alphas")  # what is measured, is measured once
ALONE: dict[str, AnySettings] = {"kmeans": KMeansSettings(4), "mlp": MlpSettings(8, max_epochs=2)}
TOGETHER: dict[str, AnySettings] = {
    "kmeans": FederatedKMeansSettings(clusters=4),
    "mlp": FederatedMlpSettings(8, rounds=2),
}
CHOICE = {
    kind: {"local": ALONE[kind], "federated": TOGETHER[kind], "centralised": ALONE[kind]}
    for kind in ALONE
}


@pytest.fixture(scope="module")
def found():
    return measure_alpha(made_up(1000), 0.6, CHOICE, seeds=1)


def test_settings_come_back_from_results(found):
    assert read_choice(found["settings"]) == CHOICE


def test_differences_are_those_of_the_pooled_figures(found):
    for kind in CHOICE:
        arms = found["pooled"][kind]
        gap = found["differences"][kind]["federated - centralised"]["common_auc"]["value"]
        values = [arms[arm]["common_auc"]["value"] for arm in ("federated", "centralised")]
        assert gap == pytest.approx(values[0] - values[1])


def test_every_client_is_counted(found):
    for kind in CHOICE:
        tally = found["own"][kind]["federated - local"]["common_auc"]
        assert tally["clients"] == len(tally["each"]) == 10
        assert tally["surely_better"] <= tally["better"]


def test_no_router_beats_the_oracle(found):
    best = found["references"]["oracle"]["common_auc"]["value"]
    for arms in found["pooled"].values():
        assert all(figures["common_auc"]["value"] < best for figures in arms.values())


def test_tables_show_what_was_measured_and_leave_out_what_was_not(found, tmp_path):
    results = {"sets": {"made_up": {"alpha 0.6": found, "alpha 0.03": found}}, "scaling": []}
    write(results, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text == render(results)
    assert "<!--" not in text
    for kind in CHOICE:
        value = found["pooled"][kind]["federated"]["common_auc"]["value"]
        assert f"{kind}, federated" in text
        assert f"{value:.4f}" in text
    assert (tmp_path / "made_up.png").stat().st_size > 0
    assert (tmp_path / "clients.png").stat().st_size > 0
    assert not (tmp_path / "scaling.png").exists()

import pytest

from router_models.training.settings import (
    KINDS,
    TRIALS,
    AverageSettings,
    KMeansSettings,
    RidgeSettings,
    candidates,
    kinds_of,
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_but_the_network_is_given_the_same_number_of_trials(kind):
    settings = candidates(kind)
    assert len(set(settings)) == len(settings) == (16 if kind == "mlp" else TRIALS)
    assert {type(one) for one in settings} == {KINDS[kind]}


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ValueError, match="known kinds: kmeans, mlp, knn, ridge"):
        candidates("oracle")


def test_clusterings_that_lie_over_each_other_are_each_half_as_fine_as_the_one_before():
    settings = KMeansSettings(12, prior_rows=3.0, clusterings=3)
    assert [layer.n_clusters for layer in settings.layers] == [12, 6, 3]
    assert {layer.prior_rows for layer in settings.layers} == {3.0}


def test_settings_are_known_by_their_kind():
    parts = (KMeansSettings(), RidgeSettings())
    assert kinds_of(parts[0]) == {"kmeans": parts[0]}
    assert kinds_of(AverageSettings(parts)) == {"kmeans": parts[0], "ridge": parts[1]}

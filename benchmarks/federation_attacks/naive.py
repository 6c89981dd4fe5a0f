"""The same learning without any check of what sites send, as plain federated averaging does it."""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

from benchmarks.federation_attacks.poisoning import Payload, Tamper
from federation.exchanges.mlp import WEIGHTS, advance
from federation.learning import kmeans, mlp, mlp_training
from federation.learning.aggregation import weighted_mean
from federation.learning.settings import FederatedKMeansSettings, FederatedMlpSettings
from federation.learning.statistics import RowSums
from router_models.estimators.arrays import Scaler, strip_prefix
from router_models.types import Estimator, Evaluations


def train_mlp(
    sites: Sequence[Evaluations],
    settings: FederatedMlpSettings,
    tampers: Mapping[int, Tamper],
    seed: int,
) -> Estimator:
    """Average whatever comes.

    Raises:
        ArtifactRejected: What came of it is not even a router.
    """
    scales = reduce(add, map(RowSums.gather, sites)).scales()
    initial = mlp_training.initial_weights(scales, settings, seed)
    state: Payload = {WEIGHTS + name: array for name, array in initial.items()}
    for round_ in range(settings.rounds):
        current = strip_prefix(WEIGHTS, state)
        contributions = []
        for index, rows in enumerate(sites):
            update = mlp_training.train_locally(current, rows, scales, settings, seed + round_)
            arrays = update.to_arrays()
            if index in tampers:
                arrays = tampers[index](current, arrays)
            weights = {name: arrays[name] for name in current}
            sent = mlp.LocalUpdate(weights, arrays["rows"], arrays["rows_per_model"])
            contributions.append(sent.contribution())
        state |= advance(state, current, weighted_mean(current, contributions), settings)
    return mlp.to_estimator(strip_prefix(WEIGHTS, state), sites[0].models, scales)


def train_kmeans(
    sites: Sequence[Evaluations],
    settings: FederatedKMeansSettings,
    tampers: Mapping[int, Tamper],
    seed: int,
    least_rows: int,
) -> Estimator:
    """Add up whatever comes.

    Raises:
        ArtifactRejected: What came of it is not even a router.
    """
    dimension = sites[0].embeddings.shape[1]
    scaler = Scaler.identity(dimension)
    found = []
    for index, rows in enumerate(sites):
        unit = scaler.apply_unit(rows.embeddings)
        sent = kmeans.local_centroids(unit, settings.local_clusters, seed, least_rows)
        tampered = tampers[index]({}, sent.to_arrays()) if index in tampers else sent.to_arrays()
        found.append(kmeans.Centroids.from_arrays(tampered, dimension))
    centroids = kmeans.merge_centroids(found, settings.clusters, seed)
    total: Payload = {}
    for index, rows in enumerate(sites):
        sums = kmeans.ClusterSums.gather(centroids, scaler, rows, least_rows).to_arrays()
        sums = tampers[index]({}, sums) if index in tampers else sums
        total = {name: array + total.get(name, 0.0) for name, array in sums.items()}
    lengths = {"n_clusters": len(centroids), "n_models": len(sites[0].models)}
    cells = kmeans.ClusterSums.from_arrays(total, lengths)
    return kmeans.to_estimator(sites[0].models, scaler, centroids, cells, settings)

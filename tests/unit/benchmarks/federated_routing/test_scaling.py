import pytest

from benchmarks.federated_routing.pictures import per_round
from benchmarks.federated_routing.scaling import SETTINGS, Cost, measure_cost
from tests.fakes.evaluations import made_up

ANSWERS = made_up(200)


def bytes_of(cost: Cost) -> int:
    return cost.bytes_sent + cost.bytes_received


@pytest.mark.parametrize("kind", SETTINGS)
def test_twice_the_clients_exchange_twice_the_messages(kind):
    few, many = (measure_cost(ANSWERS, kind, n_clients, 4) for n_clients in (2, 4))
    assert many.messages == 2 * few.messages
    assert bytes_of(many) > 1.5 * bytes_of(few)


def test_more_models_take_more_bytes_and_memory_never_shrinks():
    few, many = (measure_cost(ANSWERS, "kmeans", 2, n_models) for n_models in (4, 40))
    assert many.messages == few.messages
    assert bytes_of(many) > bytes_of(few)
    assert many.peak_bytes >= many.start_bytes > 0


def test_bytes_per_round_are_those_of_one_message_and_its_answer():
    assert per_round({"bytes_sent": 600, "bytes_received": 300, "messages": 3}) == 300

import pytest

from tests.fakes.chat import make_bench


@pytest.fixture
def bench():
    return make_bench

import json
from dataclasses import asdict

import pytest

from federation.learning.settings import KINDS


@pytest.mark.parametrize("kind", list(KINDS))
def test_settings_come_back_from_json(kind):
    settings = KINDS[kind]()
    assert KINDS[kind](**json.loads(json.dumps(asdict(settings)))) == settings

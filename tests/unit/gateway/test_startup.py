import stat

import pytest

from gateway.access.keys import KeyStore
from gateway.startup import first_key_line
from gateway.storage.database import create_database_engine
from tests.fakes.schemas import closing, with_schema


@pytest.fixture
def engine(tmp_path):
    with closing(with_schema(create_database_engine(f"sqlite:///{tmp_path / 'w.db'}"))) as engine:
        yield engine


def test_a_terminal_is_shown_the_first_key_once(engine, tmp_path):
    shown = first_key_line(engine, tmp_path, is_terminal=True)

    assert shown is not None
    assert shown.startswith("your key, shown only now: wp-")
    assert first_key_line(engine, tmp_path, is_terminal=True) is None
    assert not (tmp_path / "first-key").exists()


def test_what_may_be_a_log_is_told_the_file_that_its_owner_alone_can_read(engine, tmp_path):
    file = tmp_path / "first-key"
    file.write_text("of a database that was deleted")

    said = first_key_line(engine, tmp_path, is_terminal=False)

    assert said == f"your key: in {file}"
    assert file.read_text().startswith("wp-")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_where_no_file_can_be_written_the_line_says_how_to_get_a_key(engine, tmp_path):
    said = first_key_line(engine, tmp_path / "missing", is_terminal=False)

    assert said is not None
    assert "waypost keys create" in said
    assert "wp-" not in said
    assert len(KeyStore(engine).keys()) == 1

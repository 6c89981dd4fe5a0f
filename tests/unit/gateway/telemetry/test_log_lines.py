import logging
import sys

import orjson
import pytest

from gateway.settings.config import ServerSettings
from gateway.telemetry.log_lines import JsonLines, TextLines, formatter_of

WORDS = "what a caller asked"


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("gateway.x", logging.WARNING, "x.py", 1, message, arguments, None)
    made.__dict__ |= extra
    return made


def failed() -> logging.LogRecord:
    made = record("it failed")
    try:
        fail_with(WORDS)
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def fail_with(words: str) -> None:
    nothing: dict[str, str] = {}
    try:
        nothing[words]
    except KeyError as error:
        raise ValueError(words) from error


def test_a_line_of_json_holds_what_the_record_tells():
    line = JsonLines().format(record("%s failed\nbadly", "alpha", fields={"request_id": "req_1"}))

    assert "\n" not in line
    read = orjson.loads(line)
    assert read.pop("time").endswith("+00:00")
    assert read == {
        "level": "warning",
        "logger": "gateway.x",
        "message": "alpha failed\nbadly",
        "request_id": "req_1",
    }


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()], ids=["json", "text"])
def test_of_an_exception_the_place_and_the_class_are_told_and_not_the_words(formatter):
    line = formatter.format(failed())

    assert "ValueError" in line
    assert "KeyError" in line
    assert "in fail_with" in line
    assert WORDS not in line


@pytest.mark.parametrize(("name", "kind"), [("json", JsonLines), ("text", TextLines)])
def test_the_setting_chooses_the_form(name, kind):
    assert isinstance(formatter_of(ServerSettings(log_format=name)), kind)

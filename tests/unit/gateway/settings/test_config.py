from pathlib import Path

import pytest

from gateway.settings.config import ConfigurationError, GatewaySettings, load_settings
from gateway.settings.pool import ProviderSettings

MODEL = """
[providers.openai]
base_url = "https://api.openai.com/v1"
api_key = "$OPENAI_API_KEY"

[models."gpt-x"]
provider = "openai"
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "waypost.toml"


def load(file: Path, text: str, **environ: str) -> GatewaySettings:
    file.write_text(text)
    return load_settings(file, environ)


def complaint(file: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(file, text, **environ)
    return str(caught.value)


def test_needs_no_file(tmp_path: Path) -> None:
    settings = load_settings(None, {"XDG_DATA_HOME": str(tmp_path)})
    assert settings.data_dir == tmp_path / "waypost"
    assert settings.database_url == f"sqlite:///{tmp_path}/waypost/waypost.db"


def test_finds_the_file_that_the_environment_names(toml: Path) -> None:
    toml.write_text("[server]\nport = 9\n")
    assert load_settings(None, {"WAYPOST_CONFIG": str(toml)}).server.port == 9


def test_takes_secrets_from_the_environment_and_never_shows_them(toml: Path) -> None:
    settings = load(toml, MODEL, OPENAI_API_KEY="sk-secret")
    key = settings.providers["openai"].api_key
    assert key is not None
    assert key.get_secret_value() == "sk-secret"
    assert "sk-secret" not in repr(settings)


@pytest.mark.parametrize("key", ["sk-secret\n", " sk-secret", "sk\x00secret", "sk-\r\nsecret"])
def test_a_variable_with_a_blank_or_line_end_is_refused_by_its_name(toml: Path, key) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY begins or ends") as refused:
        load(toml, MODEL, OPENAI_API_KEY=key)
    assert "secret" not in str(refused.value)


def test_two_dollar_signs_stand_for_one(toml: Path) -> None:
    settings = load(toml, MODEL.replace("$OPENAI_API_KEY", "$$literal"))
    key = settings.providers["openai"].api_key
    assert key is not None
    assert key.get_secret_value() == "$literal"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[server\n", "not valid TOML"),
        ("[server]\nprot = 1\n", "server.prot"),
        ("[server]\nport = 70000\n", "server.port"),
        ('[server]\nport = "x"\n', "server.port"),
        (MODEL, "OPENAI_API_KEY is not set"),
        ('[models.m]\nprovider = "nobody"\n', "no [providers.nobody] table"),
        ('[providers.p]\nbase_url = "ftp://x"\n', "providers.p.base_url"),
        ('[routing]\ndefault_profile = "lavish"\n', "no profile 'lavish'"),
        (MODEL.replace("gpt-x", "auto").replace("$", "$$"), "belongs to a routing profile"),
        ("[profiles.cheap]\nwillingness_to_pay_usd = 0\n", "willingness_to_pay_usd"),
        ("[profiles.cheap]\nwillingness_to_pay_usd = inf\n", "willingness_to_pay_usd"),
        ("[profiles.cheap]\nwillingness_to_pay_usd = nan\n", "willingness_to_pay_usd"),
        ("[routing.exploration]\nkind = 'epsilon'\nepsilon = 2\n", "routing.exploration.epsilon"),
        ("[routing]\nfallbacks = ['a']\n", "routing.fallbacks"),
    ],
)
def test_a_bad_file_stops_the_start_and_says_where(toml: Path, text: str, expected: str) -> None:
    message = complaint(toml, text)
    assert expected in message
    assert str(toml) in message


def test_a_bad_secret_is_not_repeated_in_the_complaint(toml: Path) -> None:
    text = '[providers.p]\nbase_url = "https://x"\napi_keys = "$KEY"\n'
    assert "sk-secret" not in complaint(toml, text, KEY="sk-secret")


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(tmp_path / "none.toml", {})


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        settings.data_dir = tmp_path


def test_a_byte_order_mark_is_no_part_of_the_file(toml: Path) -> None:
    toml.write_bytes(b"\xef\xbb\xbf[server]\nport = 9\n")
    assert load_settings(toml, {}).server.port == 9


@pytest.mark.parametrize("written", ["Bearer $TOKEN", "Bearer ${TOKEN}"])
def test_warns_of_a_variable_that_stands_in_a_longer_text(
    toml: Path, caplog: pytest.LogCaptureFixture, written: str
) -> None:
    text = f'[providers.a]\nbase_url = "http://a"\nheaders = {{authorization = "{written}"}}\n'
    settings = load(toml, text, TOKEN="sk-secret")
    headers = settings.providers["a"].headers
    assert headers["authorization"].get_secret_value() == written
    assert "providers: a: headers: authorization: $TOKEN stands in a longer text" in caplog.text
    assert "sk-secret" not in caplog.text


@pytest.mark.parametrize("written", ["costs $5", "the $PRICE of it", "a $$TOKEN"])
def test_other_dollar_signs_are_no_reason_to_warn(
    toml: Path, caplog: pytest.LogCaptureFixture, written: str
) -> None:
    model = f'[models.m]\nprovider = "a"\nsystem_prompt = "{written}"\n'
    load(toml, f'[providers.a]\nbase_url = "http://a"\n{model}', TOKEN="x")
    assert caplog.text == ""


def test_by_default_a_provider_takes_a_call_for_every_connection(tmp_path: Path) -> None:
    settings = load_settings(None, {"WAYPOST_DATA_DIR": str(tmp_path)})
    provider = ProviderSettings(base_url="https://host.example/v1")
    assert provider.max_concurrency == settings.server.max_connections

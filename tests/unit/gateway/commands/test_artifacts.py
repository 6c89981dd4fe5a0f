import pytest
from click.testing import CliRunner

from gateway.artifacts.trust import signature_path
from gateway.cli import cli
from router_models.artifacts.artifact import read_manifest
from tests.fakes.adapters import sealed_adapter
from tests.fakes.artifacts import router_artifact
from tests.fakes.policies import policy_artifact

ROUTER = router_artifact()
VERSION = read_manifest(ROUTER).version


@pytest.fixture
def waypost(tmp_path, monkeypatch):
    """Run commands in a folder with an artefact of each kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WAYPOST_CONFIG", raising=False)
    monkeypatch.setenv("WAYPOST_DATA_DIR", str(tmp_path / "data"))
    for name, data in (
        ("router", ROUTER),
        ("policy", policy_artifact()),
        ("adapter", sealed_adapter()),
    ):
        (tmp_path / name).write_bytes(data)

    def run(*arguments: str):
        return CliRunner().invoke(cli, arguments)

    return run


@pytest.fixture
def pinned(waypost, tmp_path, monkeypatch) -> str:
    """A new key that the configuration trusts."""
    made = waypost("artifacts", "keygen", "key")
    assert made.exit_code == 0, made.output
    public_key: str = made.output.split("public key: ")[1].strip()
    config = tmp_path / "waypost.toml"
    config.write_text(f'[artifacts]\ntrusted_keys = {{ ops = "{public_key}" }}\n')
    monkeypatch.setenv("WAYPOST_CONFIG", str(config))
    return public_key


def test_a_key_signs_what_is_then_verified_imported_and_served(waypost, pinned):
    signed = waypost("artifacts", "sign", "router", "policy", "adapter", "--key", "key")
    assert f"{VERSION} is signed by {pinned}" in signed.output
    verified = waypost("artifacts", "verify", "router", "policy", "adapter")
    assert verified.output.splitlines() == [
        f"{name} is signed by ops" for name in ("router", "policy", "adapter")
    ]
    assert waypost("router", "import", "router", "--activate").exit_code == 0
    assert waypost("policy", "import", "policy", "--activate").exit_code == 0
    assert waypost("reasoner", "adapters", "import", "adapter").exit_code == 0
    assert waypost("router", "show", VERSION).exit_code == 0


@pytest.mark.parametrize(
    "command",
    [
        ("artifacts", "verify", "router"),
        ("router", "import", "router"),
        ("policy", "import", "policy"),
        ("reasoner", "adapters", "import", "adapter"),
    ],
    ids=" ".join,
)
def test_what_is_not_signed_is_refused(waypost, pinned, command):
    refused = waypost(*command)
    assert refused.exit_code == 1
    assert "it is not signed, and artifacts.trusted_keys requires it: " in refused.output


def test_no_command_uses_an_adapter_that_lost_its_signature(waypost, pinned, tmp_path):
    waypost("artifacts", "sign", "adapter", "--key", "key")
    version = waypost("reasoner", "adapters", "import", "adapter").output.split()[1]
    signature_path(tmp_path / "data" / "adapters" / f"{version}.safetensors").unlink()

    exported = waypost("reasoner", "adapters", "export", version, "out")

    assert "it is not signed" in exported.output
    assert not (tmp_path / "out").exists()


def test_a_signature_under_another_name_is_not_verified(waypost, pinned, tmp_path):
    waypost("artifacts", "sign", "router", "--key", "key")
    line = signature_path(tmp_path / "router").read_text()
    signature_path(tmp_path / "router").write_text(line.replace(VERSION, "kmeans"))
    refused = waypost("artifacts", "verify", "router")
    assert (refused.exit_code, "router: the signature by ops" in refused.output) == (1, True)


def test_signs_with_the_key_of_the_settings(waypost, pinned, tmp_path):
    config = tmp_path / "waypost.toml"
    config.write_text(f'{config.read_text()}signing_key = "key"\n')
    assert waypost("artifacts", "sign", "router").exit_code == 0
    assert waypost("artifacts", "verify", "router").exit_code == 0


def test_says_what_is_missing(waypost):
    assert "name a private key, or set" in waypost("artifacts", "sign", "router").output
    assert "there is no key to verify with" in waypost("artifacts", "verify", "router").output


def test_signs_nothing_that_is_no_artefact(waypost, pinned, tmp_path):
    refused = waypost("artifacts", "sign", "key", "--key", "key")
    assert refused.exit_code == 1
    assert "not a safetensors file" in refused.output
    assert not signature_path(tmp_path / "key").exists()


def test_a_key_is_never_overwritten(waypost, pinned, tmp_path):
    before = (tmp_path / "key").read_bytes()
    again = waypost("artifacts", "keygen", "key")
    assert again.exit_code == 1
    assert "key is there already: choose another name" in again.output
    assert (tmp_path / "key").read_bytes() == before

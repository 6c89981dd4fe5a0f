"""Settings that cannot be used end the start with one line that says what to do."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import main
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import free_port

ROOT = Path(__file__).resolve().parents[2]
MODEL = """
[providers.host]
base_url = "http://127.0.0.1:9/v1"
[models.small]
provider = "host"
price = { input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }
[embedded]
enabled = false
"""


def serve(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Start with `text` as settings; return the complaint."""
    file = folder / "waypost.toml"
    file.write_text(f'data_dir = "{folder / "data"}"\n{text}')
    with pytest.raises(SystemExit) as stopped:
        main(["serve", "--config", str(file), "--port", "0", "--admin-port", "0"])
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert "Waypost serves" not in printed.out
    return printed.err.removeprefix("waypost: ").strip()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[server\n", "not valid TOML"),
        ("[server]\nport = 80\nport = 81\n", "not valid TOML"),
        ("[server]\nprot = 80\n", "server.prot: there is no such setting"),
        (
            '[providers.p]\nbase_url = "http://h/v1"\nextra_fields = "provider"\n',
            "providers.p.extra_fields: write a list",
        ),
        (
            MODEL.replace('/v1"', '/v1"\nextra_fields = ["options.num_predict"]'),
            "providers.host.extra_fields: 'options.num_predict' admits nothing; write the name",
        ),
        ('[server]\nport = "eighty"\n', "server.port: Input should be a valid integer"),
        ("[server]\nport = 70000\n", "server.port: Input should be less than or equal to 65535"),
        ('[providers.x]\nbase_url = "ftp://x"\n', "providers.x.base_url: String should match"),
        ('[providers.x]\napi_key = "k"\n', "providers.x.base_url: Field required"),
        (
            '[models.small]\nprovider = "nobody"\n',
            ": models.small.provider: there is no [providers.nobody]",
        ),
        (
            '[providers.x]\nbase_url = "http://x"\napi_key = "$WAYPOST_NO_SUCH_KEY"\n',
            "environment variable WAYPOST_NO_SUCH_KEY is not set",
        ),
        ('[routing]\ndefault_profile = "cheap"\n', "no profile 'cheap'"),
        ('[routing]\nencoder = "bert"\n', "routing.encoder: Input should be"),
        (f'{MODEL}[routing]\ndefault_model = "large"\n', "no model 'large'; known: small"),
        ('[database]\nurl = "mysql://x/y"\n', "'mysql' is not supported; use SQLite or Postgres"),
        ('[database]\nurl = "no url"\n', "not a database URL"),
        ('[database]\nurl = "sqlite:////proc/none/waypost.db"\n', "cannot be used"),
        ('[server]\nadmin_token = "x"\n[providers.p]\nkind = "carrier pigeon"\n', "kind"),
    ],
)
def test_settings_that_cannot_be_used_are_named(tmp_path, capsys, text, complaint):
    assert complaint in serve(tmp_path, text, capsys)


def test_a_secret_is_not_repeated_in_a_complaint(tmp_path, capsys):
    text = '[providers.x]\nbase_url = "http://x"\napi_key = ["sk-very-secret"]\n'

    assert "sk-very-secret" not in serve(tmp_path, text, capsys)


def test_a_model_without_a_price_is_refused_with_what_to_write(tmp_path, capsys):
    text = '[providers.x]\nbase_url = "http://127.0.0.1:9"\n[models.m]\nprovider = "x"\n'

    complaint = serve(tmp_path, text, capsys)

    assert "models.m: no price" in complaint
    assert '[models."m".price]' in complaint


def test_a_gateway_without_any_model_says_how_to_get_one(tmp_path, capsys, monkeypatch):
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "WAYPOST_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    complaint = serve(tmp_path, "[embedded]\nenabled = false\n", capsys)

    assert "There is no model to serve." in complaint


def test_a_database_that_is_missing_at_the_start_is_named_without_its_password(tmp_path, capsys):
    url = f"postgresql://waypost:hunter2@127.0.0.1:{free_port()}/waypost"

    complaint = serve(tmp_path, f'{MODEL}[database]\nurl = "{url}"\n', capsys)

    assert "postgresql+psycopg://waypost:***@127.0.0.1" in complaint
    assert "cannot be used" in complaint
    assert "hunter2" not in complaint


def test_a_file_that_is_missing_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["serve", "--config", str(tmp_path / "none.toml")])

    assert stopped.value.code == 2
    assert "none.toml: cannot be read: No such file" in capsys.readouterr().err


def test_the_real_process_ends_with_status_2_and_one_line(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text("[server]\nprot = 80\n")

    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--config", str(file)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )

    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == f"waypost: {file}: server.prot: there is no such setting\n"

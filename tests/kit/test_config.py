"""Settings: one that makes no sense stops the start with a sentence, and shows no secret."""

import pytest
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from rochdale_kit.config import ServiceConfig, load
from rochdale_kit.keyring import read_sealing_key


class Config(ServiceConfig):
    model_config = SettingsConfigDict(env_prefix="ORCHARD_")

    trees: int = 1
    kinds: list[str] = Field([])


GOOD = {"DATABASE_URL": "postgresql+asyncpg://o:secret@h:1/d", "NATS_URL": "nats://o:secret@h:1"}


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **settings: str) -> str:
    for name, value in (GOOD | settings).items():
        monkeypatch.setenv(f"ORCHARD_{name}", value)
    with pytest.raises(SystemExit) as stopped:
        load(Config)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_a_setting_that_makes_no_sense_stops_the_start_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = told(monkeypatch, capsys, DATABASE_URL="mysql://o:planted@h/d")
    assert sentence.startswith("ORCHARD_DATABASE_URL is wrong: must start with postgresql+asyncpg://.")
    assert "planted" not in sentence


def test_every_wrong_setting_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = told(monkeypatch, capsys, TREES="many", LOG_LEVEL="LOUD", TRACE_RATIO="2").splitlines()
    assert [line.split()[0] for line in sentences] == ["ORCHARD_TRACE_RATIO", "ORCHARD_LOG_LEVEL", "ORCHARD_TREES"]
    assert not any("many" in line or "LOUD" in line for line in sentences)


def test_a_missing_setting_is_named_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(Config)
    assert "ORCHARD_NATS_URL is not set. (nats://user:password@host:port)" in capsys.readouterr().err


def test_a_list_that_is_none_is_a_sentence_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = told(monkeypatch, capsys, KINDS="[planted")
    assert "kinds" in sentence and "planted" not in sentence and "Traceback" not in sentence


def test_a_sealing_key_that_cannot_be_one_stops_the_start(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("keys")
    with pytest.raises(SystemExit, match="cannot be read"):
        read_sealing_key(str(folder / "absent"))
    (folder / "short").write_bytes(b"short")
    with pytest.raises(SystemExit, match="holds 5 bytes"):
        read_sealing_key(str(folder / "short"))
    (folder / "good").write_bytes(bytes(32))
    assert read_sealing_key(str(folder / "good")) == bytes(32)

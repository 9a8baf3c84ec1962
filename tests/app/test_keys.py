"""Keys: made, stored as digests, replaced without a restart; and settings that cannot be."""

from __future__ import annotations

import hashlib
import hmac
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from app import keys
from app.__main__ import main
from app.core.parameters import MAX_VARIANTS
from app.errors import KeysInvalid
from app.keys import Keyring, make_key, read_entries
from app.settings import LARGEST_REQUEST, Settings, sentences
from tests.app.keyed import DOOR, DOOR_LINE, GATE, GATE_LINE, WITHOUT_MODELS, unstarted

# Making and storing keys


def test_only_the_digest_of_a_key_is_stored() -> None:
    key, line = make_key("camera-7")
    assert line == f"camera-7:{hashlib.sha256(key.encode()).hexdigest()}"
    assert key not in line
    assert len(key) >= 43, "256 bits"
    assert key != make_key("camera-7")[0]


def test_the_command_prints_a_key_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "camera-7"]) == 0
    key, line = capsys.readouterr().out.splitlines()
    assert Keyring((line,)).name_of(key) == "camera-7"


def test_the_command_refuses_a_name_that_a_line_cannot_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "camera:7"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a name has 1 to 64 letters" in captured.err


@pytest.mark.parametrize("line", [DOOR, f"door:{DOOR}", "door:", f"do or:{'0' * 64}", f"door:{'0' * 63}"])
def test_what_is_no_entry_is_refused_and_never_quoted(line: str) -> None:
    with pytest.raises(KeysInvalid) as refused:
        Keyring((GATE_LINE, line))
    assert str(refused.value) == "entry 2 is not name:sha256, as `python -m app key NAME` prints it"


def test_empty_lines_and_comments_are_passed_over() -> None:
    entries, wrong = read_entries(["# the doors", "", f"  {DOOR_LINE} "])
    assert ([entry.name for entry in entries], wrong) == (["door"], [])


def test_one_key_has_one_name() -> None:
    with pytest.raises(KeysInvalid, match="entry 2 gives the key of door another name"):
        Keyring((DOOR_LINE, DOOR_LINE.replace("door", "gate")))


def test_a_key_is_compared_with_every_entry_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(one: str, other: str) -> bool:
        compared.append(one)
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(keys, "hmac", SimpleNamespace(compare_digest=compare))
    lines = tuple(make_key(f"key{i}")[1] for i in range(3))
    keyring = Keyring((DOOR_LINE, *lines))
    for key, name in ((DOOR, "door"), ("wrong", None)):
        compared.clear()
        assert keyring.name_of(key) == name
        assert len(compared) == 4


# Rotation: the keys file


@pytest.fixture
def keys_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the key `door`, looked at again each time."""
    monkeypatch.setattr(keys, "REREAD_SECONDS", 0)
    file = tmp_path / "keys"
    file.write_text(f"{DOOR_LINE}\n")
    return file


def test_a_key_is_replaced_without_a_restart(keys_file: Path) -> None:
    client = unstarted(keys_file=keys_file)

    def status(key: str) -> int:
        return client.get("/v1/model", headers={"X-API-Key": key}).status_code

    new, line = make_key("door")
    assert (status(DOOR), status(new)) == (WITHOUT_MODELS, 401)
    keys_file.write_text(f"{DOOR_LINE}\n{line}\n")
    assert (status(DOOR), status(new)) == (WITHOUT_MODELS, WITHOUT_MODELS)
    keys_file.write_text(f"{line}\n")
    assert (status(DOOR), status(new)) == (401, WITHOUT_MODELS)


def test_the_file_is_read_at_most_once_a_second(keys_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "REREAD_SECONDS", 1.0)
    now = 100.0
    monkeypatch.setattr(keys.time, "monotonic", lambda: now)
    keyring = Keyring((), keys_file)
    keys_file.write_text(f"{GATE_LINE}\n")
    now = 100.9
    assert keyring.name_of(GATE) is None
    now = 101.0
    assert keyring.name_of(GATE) == "gate"


def test_a_replaced_file_is_noticed_as_kubernetes_replaces_it(keys_file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(keys_file)
    keyring = Keyring((), link)
    (tmp_path / "next").write_text(GATE_LINE)
    (tmp_path / "swap").symlink_to(tmp_path / "next")
    (tmp_path / "swap").replace(link)
    assert (keyring.name_of(DOOR), keyring.name_of(GATE)) == (None, "gate")


def test_a_wrong_line_is_left_out_and_logged_once_without_its_text(
    keys_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keyring = Keyring((), keys_file)
    keys_file.write_text(f"{GATE_LINE}\n{DOOR}\n")
    for _ in range(3):
        assert (keyring.name_of(DOOR), keyring.name_of(GATE)) == (None, "gate")
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "line 2 is not name:sha256" in record.detail
    assert DOOR not in str(vars(record))


def test_an_unreadable_file_leaves_its_keys_in_force(keys_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    keyring = Keyring((), keys_file)
    keys_file.unlink()
    assert keyring.name_of(DOOR) == "door"
    assert keyring.name_of(DOOR) == "door"
    keys_file.write_text(f"{DOOR_LINE}\n")
    assert keyring.name_of(DOOR) == "door"
    keys_file.unlink()
    assert keyring.name_of(DOOR) == "door"
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(records) == 2, "once each time that it was away"
    assert all("cannot be read" in record.detail for record in records)


def test_an_emptied_file_lets_nobody_in(keys_file: Path) -> None:
    keyring = Keyring((GATE_LINE,), keys_file)
    keys_file.write_text("")
    assert (keyring.name_of(DOOR), keyring.name_of(GATE)) == (None, "gate")


# Settings that cannot be


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"protect": "metrics"}, "protect is set, but there are no keys"),
        ({"admin_keys": "door"}, "admin_keys is set, but there are no keys"),
        ({"keys": DOOR_LINE, "admin_keys": "gate"}, "admin_keys names gate, but keys has no such name"),
        ({"keys": DOOR_LINE, "protect": "metric"}, "LOOKALIKE_PROTECT"),
        ({"keys": DOOR}, "entry 1 is not name:sha256"),
        ({"keys_file": "/nowhere/keys"}, "the keys file cannot be read (No such file or directory)"),
        ({"rate_limit": "many"}, "must be like 600/minute"),
        ({"rate_limit": "10/second"}, "rate_limit must leave room for one request, which may ask for 64 images"),
        ({"rate_limit": "600/minute", "workers": 2}, "2 workers would each count images on their own"),
        ({"rate_store": "redis://cache:6379/0"}, "there is nothing to count: set rate_limit as well"),
        ({"rate_limit": "600/minute", "rate_store": "memcached://a"}, "LOOKALIKE_RATE_STORE"),
    ],
)
def test_impossible_settings_are_refused_with_a_sentence(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**settings)
    said = "\n".join(sentences(refused.value))
    assert sentence in said
    assert DOOR not in said


def test_a_file_without_keys_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none yet\n")
    with pytest.raises(ValidationError, match="there is no key"):
        Settings(keys_file=tmp_path / "keys")


def test_redis_without_its_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.settings.importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValidationError, match=r"pip install 'lookalike\[redis\]'"):
        Settings(rate_limit="600/minute", rate_store="redis://cache:6379/0")


def test_workers_may_share_a_limit_through_redis() -> None:
    assert Settings(rate_limit="600/minute", rate_store="redis://cache:6379/0", workers=2).workers == 2


def test_the_largest_request_is_what_the_schemas_allow() -> None:
    assert LARGEST_REQUEST == MAX_VARIANTS

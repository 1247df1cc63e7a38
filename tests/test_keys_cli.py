"""`minitill keys`: made, listed and revoked with nothing but the database."""

import json
import re
from types import SimpleNamespace

import pytest

from adapters.store.sqlite import SqliteStore
from application.access import digest_of
from application.errors import StoreUnavailable
from entrypoints.cli import main
from entrypoints.serve import serve
from tests.simulator_side import account


@pytest.fixture(autouse=True)
def database(tmp_path, monkeypatch):
    """A folder without settings, and a database that is not there yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINITILL_DATABASE", f"sqlite:///{tmp_path / 'minitill.db'}")
    return tmp_path / "minitill.db"


@pytest.fixture
def keys(capsys):
    """`keys(arguments)` is the exit code and what was printed."""

    def run(*arguments):
        code = main(["keys", *arguments])
        return code, capsys.readouterr().out

    return run


def listed(keys):
    code, out = keys("list", "--json")
    assert code == 0
    return json.loads(out)


def test_a_key_is_shown_once_and_only_its_digest_is_kept(keys, database, runner):
    code, out = keys("create", "--name", "backend", "--scope", "pay,read", "--quiet")
    key = out.removesuffix("\n")
    assert code == 0
    assert re.fullmatch(r"mt_[0-9A-Za-z_-]{43}", key)
    (line,) = listed(keys)
    assert (line["name"], line["scopes"]) == ("backend", "pay,read")
    assert (line["last_used_time"], line["revoke_time"]) == (None, None)
    assert re.fullmatch(r"[0-9a-f]{8}", line["id"])
    assert key.encode() not in b"".join(file.read_bytes() for file in database.parent.iterdir())

    async def found():
        store = await SqliteStore.open(database)
        try:
            return await store.keys.find(digest_of(key))
        finally:
            await store.close()

    assert runner.run(found()).id == line["id"]


def test_without_quiet_the_key_stands_on_a_line_of_its_own(keys):
    code, out = keys("create", "--name", "商店", "--scope", "admin")
    assert code == 0
    assert re.search(r"^  mt_[0-9A-Za-z_-]{43}$", out, re.MULTILINE)
    assert "'商店' (admin)" in out


def test_no_two_keys_are_alike(keys):
    made = {keys("create", "--name", "same", "--scope", "read", "--quiet")[1] for _ in range(5)}
    assert len(made) == len(listed(keys)) == 5


def test_a_revoked_key_stays_listed_as_revoked(keys):
    keys("create", "--name", "backend", "--scope", "pay")
    (line,) = listed(keys)
    code, out = keys("revoke", line["id"])
    assert code == 0
    assert line["id"] in out
    assert listed(keys)[0]["revoke_time"] is not None


def test_a_list_for_a_person_is_a_table(keys):
    keys("create", "--name", "backend", "--scope", "refund,pay")
    code, out = keys("list")
    assert code == 0
    assert out.split("\n")[0].split() == [
        "id",
        "name",
        "scopes",
        "create_time",
        "last_used_time",
        "revoke_time",
    ]
    assert "pay,refund" in out


def test_what_is_not_there_can_not_be_revoked(keys, capsys):
    keys("create", "--name", "backend", "--scope", "pay")
    assert main(["keys", "revoke", "nobody"]) == 1
    assert "KEY_NOT_FOUND" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["create"],
        ["create", "--name", "x"],
        ["create", "--name", "x", "--scope", ""],
        ["create", "--name", "x", "--scope", "everything"],
        ["create", "--name", "x", "--scope", "pay,"],
        ["create", "--name", "", "--scope", "pay"],
        ["create", "--name", "a\nb", "--scope", "pay"],
        ["revoke"],
    ],
)
def test_wrong_usage_makes_no_key(keys, database, arguments):
    with pytest.raises(SystemExit) as stopped:
        keys(*arguments)
    assert stopped.value.code == 2
    assert not database.exists()


@pytest.mark.parametrize("act", ["create", "list", "revoke"])
def test_each_has_its_help_with_an_example(keys, capsys, act):
    with pytest.raises(SystemExit) as stopped:
        keys(act, "--help")
    assert stopped.value.code == 0
    assert f"example: minitill keys {act}" in capsys.readouterr().out


# -- serving in open mode -----------------------------------------------------------------------


def test_open_mode_with_real_credentials_wants_to_be_understood(monkeypatch, capsys):
    monkeypatch.setenv("WECHAT_PAY_CERTS_DIR", str(account().directory))
    for line in account().file("simulator.env").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        if name.startswith("WECHAT_PAY_") and name != "WECHAT_PAY_CERTS_DIR":
            monkeypatch.setenv(name, value.strip("'\""))
    monkeypatch.setenv("MINITILL_AUTH_MODE", "open")
    monkeypatch.setattr("entrypoints.commands.logs.set_up", lambda *_: None)  # it is the tests' own here
    assert main(["serve"]) == 1
    said = capsys.readouterr().err
    assert "--i-understand-open-mode" in said
    assert "MINITILL_AUTH_MODE" in said


@pytest.mark.parametrize("auth_mode", ["open", "token"])
async def test_open_mode_is_warned_of_at_each_start(auth_mode, monkeypatch, caplog):
    async def refuse(*_, **__):
        raise StoreUnavailable("not today")

    monkeypatch.setattr("entrypoints.serve.Till.open", refuse)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await serve(SimpleNamespace(auth_mode=auth_mode, host="127.0.0.1", port=0))
    assert caplog.text.count("AUTH_MODE=open: callers are not authenticated") == 2 * (auth_mode == "open")


def test_a_key_needs_no_name(keys):
    keys("create", "--scope", "pay", "--quiet")
    assert [key["name"] for key in listed(keys)] == ["unnamed"]

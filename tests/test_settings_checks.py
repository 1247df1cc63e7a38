"""What the settings point at: looked at before the start, one line for each fault, none with a secret."""

import os
import sqlite3
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.store.sqlite import SqliteStore
from adapters.wechat.simulator.certificates import LIFE, make_certificate, make_key, private_pem, public_pem
from entrypoints import commands
from entrypoints.settings import SETTINGS, Faults, load, read, warnings_of
from entrypoints.settings_checks import CHECKS, looks
from tests.simulator_side import account

NOW = datetime.now(UTC)
KEY = make_key()
GOOD = {
    "WECHAT_PAY_MCH_ID": "1900000109",
    "WECHAT_PAY_APPID": "wx1234567890abcdef",
    "WECHAT_PAY_API_KEY": "k" * 32,
    "MINITILL_TOKEN_SECRET": "t" * 32,
    "WECHAT_PAY_NOTIFY_URL": "https://shop.example.com/api/wechat/pay/notify",
}


def write(path, content, mode=0o600):
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.fixture
def shop(tmp_path):
    """Variables of a merchant whose files lie in `tmp_path`, all as they should be."""
    write(tmp_path / "apiclient_key.pem", private_pem(KEY))
    write(tmp_path / "apiclient_cert.pem", make_certificate(KEY, "Merchant", NOW), 0o644)
    write(tmp_path / "pub_key.pem", account().file("pub_key.pem").read_bytes(), 0o644)
    return GOOD | {
        "WECHAT_PAY_CERTS_DIR": str(tmp_path),
        "WECHAT_PAY_API_V3_KEY": "3" * 32,
        "WECHAT_PAY_PUBLIC_KEY_ID": "PUB_KEY_ID_0123",
        "MINITILL_DATABASE": f"sqlite:///{tmp_path / 'minitill.db'}",
    }


def faults_of(given, now=NOW):
    try:
        load(given, clock=lambda: now)
    except Faults as faults:
        return [str(fault) for fault in faults.faults]
    return []


def warned(given, now=NOW):
    return [str(fault) for fault in warnings_of(load(given, clock=lambda: now), clock=lambda: now)]


def one(lines, *words):
    """There is one line, and it holds these words."""
    (line,) = lines
    assert "\n" not in line
    for word in words:
        assert word in line, line


def test_what_is_as_it_should_be_needs_no_word(shop):
    assert (faults_of(shop), warned(shop)) == ([], [])


# -- the certificate and the clock ------------------------------------------------------------------


def test_a_certificate_that_has_ended_stops_the_start(shop):
    one(faults_of(shop, NOW + LIFE), "WECHAT_PAY_CERTS_DIR: apiclient_cert.pem ended on", "; make a new")


@pytest.mark.parametrize(("days", "told"), [(31, False), (30, True), (1, True)])
def test_a_certificate_that_ends_soon_is_a_warning(shop, days, told):
    now = NOW + LIFE - timedelta(days=days)
    assert faults_of(shop, now) == []
    assert bool(warned(shop, now)) is told
    if told:
        one(warned(shop, now), "WECHAT_PAY_CERTS_DIR: apiclient_cert.pem ends on")


@pytest.mark.parametrize("now", [datetime(1970, 1, 1, tzinfo=UTC), datetime(2023, 12, 31, tzinfo=UTC)])
def test_a_clock_that_was_lost_stops_the_start(shop, now):
    """R5."""
    one(faults_of(shop, now), "system clock: says", "NTP")


def test_a_clock_before_the_certificate_s_first_day_stops_the_start(shop):
    """R5."""
    one(
        faults_of(shop, NOW - timedelta(days=2)),
        "system clock: says",
        "apiclient_cert.pem is good from",
        "NTP",
    )


# -- the files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o601])
def test_a_private_key_that_others_can_use_stops_the_start(shop, tmp_path, mode):
    key = tmp_path / "apiclient_key.pem"
    key.chmod(mode)
    one(faults_of(shop), f"mode {mode:o}", f"; chmod 600 {key}")


def test_a_private_key_that_is_too_short_stops_the_start(shop, tmp_path):
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - it is refused
    write(tmp_path / "apiclient_key.pem", private_pem(short))
    write(tmp_path / "apiclient_cert.pem", make_certificate(short, "Merchant", NOW))
    one(faults_of(shop), "has 1024 bits")


@pytest.mark.parametrize("name", ["apiclient_key.pem", "apiclient_cert.pem", "pub_key.pem"])
def test_a_pem_of_another_kind_is_told_once(shop, tmp_path, name):
    """R2: what Merchant says is not said again."""
    write(tmp_path / name, b"-----BEGIN NONSENSE-----\n-----END NONSENSE-----\n")
    one(faults_of(shop), "WECHAT_PAY_CERTS_DIR", name, "not a")


def test_a_key_and_a_certificate_of_two_merchants_are_told_once(shop, tmp_path):
    """R2."""
    write(tmp_path / "apiclient_key.pem", private_pem(make_key()))
    one(faults_of(shop), "do not belong together")


def test_the_merchant_s_own_public_key_is_not_wechat_s(shop, tmp_path):
    write(tmp_path / "pub_key.pem", public_pem(KEY))
    one(faults_of(shop), "pub_key.pem is the merchant's own key", "download")


def test_a_public_key_without_its_id_is_a_warning(shop):
    one(warned(shop | {"WECHAT_PAY_PUBLIC_KEY_ID": ""}), "WECHAT_PAY_PUBLIC_KEY_ID: is not set", "not used")


def test_a_public_key_that_others_can_change_is_a_warning(shop, tmp_path):
    (tmp_path / "pub_key.pem").chmod(0o666)
    one(warned(shop), "can be changed by others", "chmod 644")


def test_other_secret_files_that_others_can_read_are_warnings(shop, tmp_path):
    write(tmp_path / "apiclient_cert.p12", b"", 0o644)
    mounted = write(tmp_path / "key", b"k" * 32, 0o444)
    given = {k: v for k, v in shop.items() if k != "WECHAT_PAY_API_KEY"}
    p12, key = warned(given | {"WECHAT_PAY_API_KEY_FILE": str(mounted)})
    assert ("apiclient_cert.p12" in p12, "chmod 600" in p12) == (True, True)
    assert key.startswith("WECHAT_PAY_API_KEY_FILE: ")
    assert "mode 444" in key


# -- the addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://shop.example.com/api/wechat/pay/notify", "is not https"),
        ("https://10.0.0.7/api/wechat/pay/notify", "no public address"),
        ("https://localhost/api/wechat/pay/notify", "no public address"),
        ("https://[::1]/api/wechat/pay/notify", "no public address"),
        ("https://till.internal/api/wechat/pay/notify", "no public address"),
        ("https://shop.example.com/notify", "another path"),
    ],
)
def test_a_notify_url_that_wechat_may_not_reach_is_a_warning(shop, url, words):
    """R21."""
    one(warned(shop | {"WECHAT_PAY_NOTIFY_URL": url}), "WECHAT_PAY_NOTIFY_URL: ", words)


def test_beside_a_simulator_any_host_will_do(shop):
    """R21."""
    local = "http://127.0.0.1:5000/api/wechat/pay/notify"
    assert warned(shop | {"WECHAT_PAY_NOTIFY_URL": local, "WECHAT_PAY_BASE_URL": "http://127.0.0.1:1"}) == []


# -- the database -----------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_stops_the_start(shop, tmp_path):
    given = shop | {"MINITILL_DATABASE": f"sqlite:///{tmp_path}/none/minitill.db"}
    one(faults_of(given), "MINITILL_DATABASE: the folder", "does not exist; mkdir -p")


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_database_that_can_not_be_written_stops_the_start(shop, tmp_path, monkeypatch, what):
    file = write(tmp_path / "minitill.db", b"")
    closed = tmp_path if what == "folder" else file
    # Root may write anywhere: whether tests run as root must not decide.
    monkeypatch.setattr(os, "access", lambda path, _rights: path != closed)
    one(faults_of(shop), f"MINITILL_DATABASE: {'the folder ' * (what == 'folder')}{closed} can't be")


def test_a_database_that_is_a_folder_or_no_database_stops_the_start(shop, tmp_path):
    one(faults_of(shop | {"MINITILL_DATABASE": f"sqlite:///{tmp_path}"}), "is no file")
    write(tmp_path / "minitill.db", b"PK\3\4" * 100)
    one(faults_of(shop), "is no SQLite database")
    write(tmp_path / "minitill.db", b"SQLite format 3\0" + b"x" * 4096)
    one(faults_of(shop), "can't be read (DatabaseError)")


def sql(path, *statements):
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def test_another_program_s_database_stops_the_start(shop, tmp_path):
    sql(tmp_path / "minitill.db", "CREATE TABLE photos (name TEXT)")
    one(faults_of(shop), "is another program's")
    sql(tmp_path / "minitill.db", "CREATE TABLE migrations (id INTEGER)")
    one(faults_of(shop), "is another program's")


async def test_a_database_of_ours_is_known_open_or_closed_and_left_as_it_is(shop, tmp_path):
    path = tmp_path / "minitill.db"
    store = await SqliteStore.open(path)
    try:
        assert faults_of(shop) == []
    finally:
        await store.close()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert faults_of(shop) == []
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert looks(read(shop).subject)["database"].found.endswith("up to date")
    sql(path, "DELETE FROM migrations WHERE number > 1")
    assert "to come" in looks(read(shop).subject)["database"].found


async def test_a_newer_minitill_s_database_stops_the_start(shop, tmp_path):
    await (await SqliteStore.open(tmp_path / "minitill.db")).close()
    sql(tmp_path / "minitill.db", "INSERT INTO migrations VALUES (9999, 'later', 0)")
    one(faults_of(shop), "MINITILL_DATABASE: the database has migration 9999", "; start the newer minitill")


def test_an_empty_database_is_one_to_be_filled(shop, tmp_path):
    write(tmp_path / "minitill.db", b"")
    assert faults_of(shop) == []
    assert "will be filled" in looks(read(shop).subject)["database"].found


# -- TLS --------------------------------------------------------------------------------------------


@pytest.fixture
def tls(shop, tmp_path):
    key, cert = write(tmp_path / "tls.key", private_pem(KEY)), tmp_path / "tls.pem"
    write(cert, make_certificate(KEY, "shop.example.com", NOW))
    return shop | {"MINITILL_TLS_CERT": str(cert), "MINITILL_TLS_KEY": str(key)}


def without_merchant(given):
    """The merchant's own certificate ends with the other one: leave it out."""
    return {k: v for k, v in given.items() if "V3" not in k and "CERTS_DIR" not in k and "PUBLIC" not in k}


def test_tls_files_are_looked_into(tls, tmp_path):
    assert (faults_of(tls), warned(tls)) == ([], [])
    plain = without_merchant(tls)
    one(faults_of(plain, NOW + LIFE), "MINITILL_TLS_CERT: the certificate ended on")
    one(warned(plain, NOW + LIFE - timedelta(days=9)), "MINITILL_TLS_CERT: the certificate ends on")
    (tmp_path / "tls.key").chmod(0o644)
    one(warned(tls), "MINITILL_TLS_KEY: ", "chmod 600")
    write(tmp_path / "tls.key", private_pem(make_key()))
    one(faults_of(tls), "MINITILL_TLS_CERT: and MINITILL_TLS_KEY are no PEM")
    (tmp_path / "tls.key").unlink()
    one(faults_of(tls), "can't be read (No such file or directory)")


# -- all of them ------------------------------------------------------------------------------------


def test_everything_wrong_is_told_at_once(shop, tmp_path):
    (tmp_path / "apiclient_key.pem").chmod(0o644)
    write(tmp_path / "minitill.db", b"no database at all")
    lines = faults_of(shop | {"MINITILL_PORT": "x", "WECHAT_PAY_MCH_ID": ""}, NOW + LIFE)
    assert [line.split(":")[0] for line in lines] == [
        "MINITILL_PORT",
        "WECHAT_PAY_MCH_ID",
        "WECHAT_PAY_CERTS_DIR",
        "WECHAT_PAY_CERTS_DIR",
        "MINITILL_DATABASE",
    ]


def test_a_command_says_its_warnings_and_goes_on(shop, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands.logs, "set_up", lambda *_how: None)  # pytest keeps its own
    monkeypatch.setattr(commands, "DOTENV", write(tmp_path / ".env", b"", 0o644))
    commands.settings_of(shop | {"MINITILL_PROT": "1", "WECHAT_PAY_PUBLIC_KEY_ID": ""})
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("minitill: warning: ").split(":")[0] for line in lines] == [
        "MINITILL_PROT",
        ".env",
        "WECHAT_PAY_PUBLIC_KEY_ID",
    ]


def test_every_check_says_something_about_what_is_there(tls, tmp_path):
    found = looks(read(tls, clock=lambda: NOW).subject)
    assert list(found) == [name for name, _ in CHECKS]
    assert all(look.found and not look.faults and not look.warnings for look in found.values())


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    secrets=st.dictionaries(st.sampled_from([s.name for s in SETTINGS if s.secret]), st.text(max_size=40)),
    files=st.dictionaries(
        st.sampled_from(["apiclient_key.pem", "apiclient_cert.pem", "pub_key.pem", "minitill.db", "tls.pem"]),
        st.sampled_from([b"Hush", b"-----BEGIN PRIVATE KEY-----\nHush\n-----END PRIVATE KEY-----\n"]),
    ),
    mode=st.sampled_from([0o600, 0o644, 0o666]),
)
def test_no_secret_is_in_any_line(tls, tmp_path, secrets, files, mode):
    """R46: neither one of the environment's nor one of a file's."""
    kept = {file: (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) for file in tmp_path.iterdir()}
    try:
        for name, content in files.items():
            write(tmp_path / name, content, mode)
        reading = read(tls | {name: f"Hush{value}" for name, value in secrets.items()}, clock=lambda: NOW)
        seen = looks(reading.subject).values()
        lines = [*reading.faults, *(fault for look in seen for fault in (*look.faults, *look.warnings))]
        told = [*map(str, lines), *(look.found for look in seen), repr(reading)]
        assert not [line for line in told if "Hush" in line]
        assert all("\n" not in str(line) and "; " in str(line) for line in lines)
    finally:
        for file in list(tmp_path.iterdir()):
            file.unlink()
        for file, (content, mode_before) in kept.items():
            write(file, content, mode_before)

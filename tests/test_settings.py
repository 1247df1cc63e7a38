"""Settings: read from three places, judged all at once, one line for each fault."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.wechat.simulator.credentials import prepare
from entrypoints.settings import SETTINGS, Faults, load, unknown, variables

GOOD = {
    "WECHAT_PAY_MCH_ID": "1900000109",
    "WECHAT_PAY_APPID": "wx1234567890abcdef",
    "WECHAT_PAY_API_KEY": "k" * 32,
    "MINITILL_TOKEN_SECRET": "t" * 32,
    "WECHAT_PAY_NOTIFY_URL": "https://shop.example.com/api/wechat/pay/notify",
}


def faults_of(**changes):
    with pytest.raises(Faults) as caught:
        load(GOOD | changes)
    return {fault.variable: str(fault) for fault in caught.value.faults}


def test_what_is_needed_is_enough():
    settings = load(GOOD)
    assert (settings.port, settings.database) == (5000, "sqlite:///minitill.db")
    assert settings.merchant.api_version == "v2"
    assert settings.backup_url == "https://api2.mch.weixin.qq.com"


def test_new_orders_go_by_v3_where_its_key_is_there(tmp_path):
    prepare(tmp_path, base_url="http://127.0.0.1:1", notify_url=GOOD["WECHAT_PAY_NOTIFY_URL"])
    both = GOOD | {"WECHAT_PAY_API_V3_KEY": "3" * 32, "WECHAT_PAY_CERTS_DIR": str(tmp_path)}
    assert load(both).merchant.api_version == "v3"
    assert load(both | {"WECHAT_PAY_API_VERSION": "V2"}).merchant.api_version == "v2"


def test_what_a_simulator_writes_is_enough(tmp_path):
    prepare(tmp_path, base_url="http://127.0.0.1:1", notify_url=GOOD["WECHAT_PAY_NOTIFY_URL"])
    settings = load(variables(tmp_path / "simulator.env", {"MINITILL_AUTH_MODE": "open"}))
    assert settings.merchant.speaks_v2
    assert settings.merchant.speaks_v3
    assert settings.base_url == "http://127.0.0.1:1"


def test_a_key_that_is_not_the_certificate_s_stops_the_start(tmp_path):
    """R2."""
    prepare(tmp_path, base_url="http://127.0.0.1:1", notify_url=GOOD["WECHAT_PAY_NOTIFY_URL"])
    (tmp_path / "apiclient_key.pem").write_bytes((tmp_path / "wechat" / "platform_key.pem").read_bytes())
    with pytest.raises(Faults, match="do not belong together"):
        load(variables(tmp_path / "simulator.env", {"MINITILL_AUTH_MODE": "open"}))


def test_another_base_url_has_no_official_backup():
    assert load(GOOD | {"WECHAT_PAY_BASE_URL": "http://127.0.0.1:5001/"}).backup_url == ""


def test_every_fault_is_told_at_once_with_its_variable_and_remedy():
    with pytest.raises(Faults) as caught:
        load({"MINITILL_PORT": "70000", "WECHAT_PAY_SIGN_TYPE": "SHA1", "MINITILL_DATABASE": "mysql://x"})
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "WECHAT_PAY_SIGN_TYPE",
        "MINITILL_DATABASE",
        "MINITILL_PORT",
        "MINITILL_TOKEN_SECRET",
        "WECHAT_PAY_MCH_ID",
        "WECHAT_PAY_APPID",
        "WECHAT_PAY_NOTIFY_URL",
        "WECHAT_PAY_API_KEY",
    ]
    assert all("; " in line for line in lines)


@pytest.mark.parametrize(
    "url",
    [
        "shop.example.com/notify",
        "ftp://shop.example.com/notify",
        "https://shop.example.com",
        "https://shop.example.com/",
        "https://shop.example.com/notify?x=1",
        "https://shop.example.com/notify#x",
        "https://shop.example.com/no tify",
        "https://shop.example.com/" + "n" * 255,
    ],
)
def test_a_notify_url_wechat_would_not_call_is_refused(url):
    """R21."""
    assert set(faults_of(WECHAT_PAY_NOTIFY_URL=url)) == {"WECHAT_PAY_NOTIFY_URL"}


def test_limits_can_only_narrow():
    assert set(faults_of(MINITILL_MAX_FEE="1000001")) == {"MINITILL_MAX_FEE"}
    assert set(faults_of(MINITILL_MIN_FEE="0")) == {"MINITILL_MIN_FEE"}
    assert set(faults_of(MINITILL_MIN_FEE="200", MINITILL_MAX_FEE="100")) == {"MINITILL_MIN_FEE"}


def test_a_secret_can_be_mounted_as_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text("s" * 32 + "\n")
    given = {k: v for k, v in GOOD.items() if k != "WECHAT_PAY_API_KEY"}
    assert load(given | {"WECHAT_PAY_API_KEY_FILE": str(file)}).merchant.api_key == "s" * 32
    assert "keep one" in faults_of(WECHAT_PAY_API_KEY_FILE=str(file))["WECHAT_PAY_API_KEY"]
    missing = faults_of(WECHAT_PAY_API_KEY="", WECHAT_PAY_API_KEY_FILE=str(tmp_path / "none"))
    assert "can't be read" in missing["WECHAT_PAY_API_KEY"]


def test_a_mounted_file_that_cannot_be_a_setting_is_refused(tmp_path):
    file = tmp_path / "core"
    for content in (b"\xff\xfe\x00", b"x" * 70_000):
        file.write_bytes(content)
        assert "WECHAT_PAY_API_KEY" in faults_of(WECHAT_PAY_API_KEY="", WECHAT_PAY_API_KEY_FILE=str(file))


def test_the_environment_wins_over_the_file(tmp_path):
    dotenv = tmp_path / ".env"
    dotenv.write_text("MINITILL_PORT=1\nMINITILL_HOST=0.0.0.0\nPATH_OF_OTHERS=x\n")
    assert variables(dotenv, {"MINITILL_PORT": "2", "HOME": "/"}) == {
        "MINITILL_PORT": "2",
        "MINITILL_HOST": "0.0.0.0",  # noqa: S104 - read, not listened on
    }


def test_a_misspelt_variable_is_pointed_at():
    (fault,) = unknown(GOOD | {"WECHAT_PAY_APIKEY": "x"})
    assert "did you mean WECHAT_PAY_API_KEY?" in str(fault)


@given(st.dictionaries(st.sampled_from([s.name for s in SETTINGS if s.secret]), st.text()))
def test_no_secret_shows_in_a_repr_or_a_fault(secrets):
    marked = {name: f"Hush{value}" for name, value in secrets.items()}
    try:
        said = repr(load(GOOD | marked))
    except Faults as faults:
        said = str(faults)
    assert "Hush" not in said


def test_the_database_address_shows_in_no_repr():
    assert "minitill.db" not in repr(load(GOOD))


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"MINITILL_WEBHOOK_URL": "ftp://shop.example.com"}, "MINITILL_WEBHOOK_URL"),
        ({"MINITILL_WEBHOOK_URL": "https://10.0.0.1/hook"}, "MINITILL_WEBHOOK_URL"),
        ({"MINITILL_WEBHOOK_URL": "https://shop.example.com/hook"}, "MINITILL_WEBHOOK_SECRET"),
        (
            {"MINITILL_WEBHOOK_URL": "https://shop.example.com/hook", "MINITILL_WEBHOOK_SECRET": "short"},
            "MINITILL_WEBHOOK_SECRET",
        ),
    ],
)
def test_a_webhook_that_cannot_be_stops_the_start(changes, variable):
    assert set(faults_of(**changes)) == {variable}

"""The whole service as a newcomer starts it: real processes, real HTTP, an order paid on the simulator."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from urllib.error import HTTPError

import pytest

pytestmark = pytest.mark.slow

OPENID = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
TEA = {"openid": OPENID, "total_fee": 100, "body": "图片增强服务", "attach": "user_id_123"}


@contextmanager
def sandbox(*arguments, **environ):
    """`minitill serve --sandbox` on free ports; yields the addresses of the service and the simulator."""
    command = [
        sys.executable,
        "-m",
        "entrypoints",
        "serve",
        "--sandbox",
        "--port",
        "0",
        "--simulator-port",
        "0",
    ]
    process = subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": "", "PYTHONPATH": ".", **environ},
    )
    try:
        said = ""
        for line in process.stdout:
            said += line
            if "Ctrl-C" in line:
                break
        assert "Ctrl-C" in said, process.stderr.read()
        service = re.search(r"服务\s+(http://\S+)", said)[1]
        simulator = re.search(r"付款页\s+(http://\S+?)/\s", said)[1]
        yield service, simulator
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "Traceback" not in log
    finally:
        process.kill()
        process.communicate()


def call(url, body=None):
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())
    if body is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize(
    ("arguments", "environ", "sign_type"),
    [
        ((), {"WECHAT_PAY_API_VERSION": "v2"}, "MD5"),
        ((), {"WECHAT_PAY_API_VERSION": "v2", "WECHAT_PAY_SIGN_TYPE": "HMAC-SHA256"}, "HMAC-SHA256"),
        ((), {"WECHAT_PAY_API_VERSION": "v3"}, "RSA"),
        (("--public-key-mode",), {}, "RSA"),
    ],
    ids=["V2 MD5", "V2 HMAC-SHA256", "V3 certificates", "V3 public key"],
)
def test_an_order_is_created_paid_on_the_simulator_and_seen_paid(arguments, environ, sign_type):
    """R14, R15: by the same five calls that an existing mini-program makes."""
    with sandbox(*arguments, **environ) as (service, simulator):
        api = f"{service}/api/wechat/pay"
        assert call(f"{service}/readyz")[0] == 200
        status, created = call(f"{api}/create", TEA)
        assert (status, created["success"]) == (200, True)
        number, params = created["data"]["out_trade_no"], created["data"]["pay_params"]
        assert re.fullmatch(r"PAY\d{20}", number)
        assert set(params) == {"appId", "timeStamp", "nonceStr", "package", "signType", "paySign"}
        assert params["signType"] == sign_type
        assert params["package"].startswith("prepay_id=wx")
        assert call(f"{api}/query/{number}")[1]["data"] == {
            "out_trade_no": number,
            "transaction_id": None,
            "trade_state": "NOTPAY",
            "total_fee": "100",
            "time_end": None,
        }
        assert call(f"{simulator}/_sim/pay", {"out_trade_no": number})[0] == 200
        paid = wait_for(lambda: call(f"{api}/query/{number}")[1]["data"], "SUCCESS")
        assert re.fullmatch(r"\d{14}", paid["time_end"])
        assert paid["total_fee"] == "100"
        assert paid["transaction_id"]
        (order,) = call(f"{api}/orders/{OPENID}")[1]["data"]
        assert (order["out_trade_no"], order["status"], order["total_fee"]) == (number, "PAID", 100)
        assert order["time_end"] == paid["time_end"]
        assert call(f"{api}/stats")[1]["data"] == {
            "total": 1,
            "pending": 0,
            "paid": 1,
            "cancelled": 0,
            "failed": 0,
            "refunded": 0,
        }


def wait_for(ask, trade_state):
    """Ask until the notification or a query has brought the news; each question is a round trip."""
    for _ in range(5000):
        found = ask()
        if found["trade_state"] == trade_state:
            return found
    raise AssertionError(found)


def test_bad_input_reaches_neither_wechat_nor_the_database():
    with sandbox() as (service, simulator):
        api = f"{service}/api/wechat/pay"
        for total_fee in (True, 1.0, "100", None, 0, -1, 1_000_001, 10**30):
            status, answer = call(f"{api}/create", TEA | {"total_fee": total_fee})
            assert (status, answer["success"]) == (400, False)
            assert answer["error"]["code"] in {"FEE_INVALID", "FEE_OUT_OF_RANGE"}
        assert call(f"{api}/stats")[1]["data"]["total"] == 0
        assert not call(f"{simulator}/_sim/orders")[1]["orders"]


def minitill(*arguments, **environ):
    return subprocess.run(
        [sys.executable, "-m", "entrypoints", *arguments],
        capture_output=True,
        text=True,
        env={"PATH": "", "PYTHONPATH": ".", **environ},
        timeout=60,
        check=False,
    )


def test_faulty_settings_stop_the_start_with_a_line_each():
    done = minitill("serve", WECHAT_PAY_MCH_ID="x", MINITILL_PORT="99999", MINITILL_LOG_LEVEL="loud")
    assert done.returncode == 1
    for variable in ("WECHAT_PAY_MCH_ID", "WECHAT_PAY_APPID", "WECHAT_PAY_NOTIFY_URL", "MINITILL_LOG_LEVEL"):
        assert len(re.findall(rf"^  {variable}: .+; .+$", done.stderr, re.MULTILINE)) == 1
    assert "Traceback" not in done.stderr


def test_without_any_credentials_the_sandbox_is_pointed_at():
    done = minitill("serve")
    assert done.returncode == 1
    assert "--sandbox" in done.stderr


def test_wrong_usage_has_its_own_exit_code():
    assert minitill("serve", "--port", "lots").returncode == 2
    assert minitill("fly").returncode == 2


def test_migrate_brings_a_new_file_up_to_date(tmp_path):
    file = tmp_path / "minitill.db"
    done = minitill("migrate", "--database", f"sqlite:///{file}")
    assert (done.returncode, file.exists()) == (0, True)

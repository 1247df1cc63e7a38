"""The doctor against a running simulator: all fine, then each line made to fail in turn."""

import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from adapters.webhook import is_outside
from adapters.wechat import client, doctor_reach
from adapters.wechat.doctor import PROBES
from adapters.wechat.finding import Finding, Probe, Verdict, failed, fine, skipped
from adapters.wechat.notify import PATH
from adapters.wechat.simulator import Simulator
from adapters.wechat.simulator.certificates import make_key, private_pem, public_pem
from entrypoints.doctor import examine, run
from entrypoints.doctor_cli import as_json, as_table
from entrypoints.settings import variables
from entrypoints.till import Till
from tests.simulator_side import account

NOBODY = "http://127.0.0.1:1"  # a port that nobody listens on
REFUSED = '{"code": "FAIL", "message": "probe"}'


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """A call that is repeated is repeated at once."""
    monkeypatch.setattr(client, "PAUSES", (0, 0))


@asynccontextmanager
async def answering(status=401, body=REFUSED):
    """Somebody at notify_url; what they hear is kept in `heard`."""
    heard = []

    async def answer(request):
        heard.append((dict(request.headers), await request.read()))
        return web.Response(status=status, text=body, headers={"Location": "/"})

    app = web.Application()
    app.add_routes([web.post(PATH, answer)])
    server = TestServer(app)
    await server.start_server()
    server.heard = heard
    try:
        yield server
    finally:
        await server.close()


class World:
    """A simulator, someone at notify_url, and the variables that name both."""

    def __init__(self, simulator, notify, folder):
        self.simulator, self.notify = simulator, notify
        made = variables(simulator.credentials.file("simulator.env"), {})
        self.given = made | {
            "WECHAT_PAY_BASE_URL": simulator.url,
            "WECHAT_PAY_BACKUP_URL": simulator.url,
            "WECHAT_PAY_NOTIFY_URL": str(notify.make_url(PATH)),
            "WECHAT_PAY_TIMEOUT_SECONDS": "3",
            "MINITILL_AUTH_MODE": "open",
            "MINITILL_DATABASE": f"sqlite:///{folder / 'minitill.db'}",
            "MINITILL_WEBHOOK_URL": f"{NOBODY}/hook",
            "MINITILL_WEBHOOK_SECRET": "whsec_" + "a" * 32,
            "MINITILL_WEBHOOK_ALLOW_PRIVATE": "true",
        }

    async def findings(self, bench=None, **changes):
        """By name."""
        found = await examine(self.given | changes, **bench or {})
        assert len({one.name for one in found}) == len(found)
        return {one.name: one for one in found}

    def fault(self, kind, on, **how):
        self.simulator.faults.set("calls", kind, rate=1, on=on, **how)


@asynccontextmanager
async def world(folder, status=401, body=REFUSED):
    simulator = Simulator(account())
    await simulator.start("127.0.0.1", 0)
    try:
        async with answering(status, body) as notify:
            yield World(simulator, notify, folder)
    finally:
        await simulator.stop()


def copied(folder):
    """The account's key files, to be spoilt."""
    for name in ("apiclient_key.pem", "apiclient_cert.pem", "pub_key.pem"):
        source = account().file(name)
        (folder / name).write_bytes(source.read_bytes())
        (folder / name).chmod(source.stat().st_mode & 0o777)
    return folder


def wrong(findings):
    return [one.name for one in findings.values() if one.verdict is Verdict.FAILED]


async def only(found, name, *words):
    """This line alone is wrong, and says so in these words."""
    assert wrong(found) == [name]
    told = f"{found[name].found} → {found[name].remedy}"
    assert found[name].remedy
    for word in words:
        assert word in told
    return found


async def test_against_a_running_simulator_all_is_fine(tmp_path):
    """R2, R5, R21, R52."""
    async with world(tmp_path) as here:
        found = await here.findings()
        assert [one for one in found.values() if one.verdict is Verdict.WARNING] == []
        assert wrong(found) == []
        told = {name: one.found for name, one in found.items() if one.verdict is Verdict.SKIPPED}
        assert told == {
            "other secret files": "nothing to look at",
            "TLS files": "nothing to look at",
            "appid and mch_id": "the V2 query shows it",
            "notify_url's host": "a simulator on this machine reaches any address",
        }
        assert {probe.name for probe in PROBES} < set(found)


async def test_nothing_is_left_behind_and_no_order_is_made(tmp_path):
    async with world(tmp_path) as here:
        files = sorted(account().directory.rglob("*"))
        await here.findings()
        assert sorted(account().directory.rglob("*")) == files
        assert list(tmp_path.iterdir()) == []
        assert here.simulator.book.orders == {}
        called = {call.operation for call in here.simulator.platform.calls}
        assert called == {"query", "certificates", "echo", "login"}


async def test_no_finding_tells_a_secret(tmp_path):
    async with world(tmp_path) as here:
        secret_ones = [here.given[f"WECHAT_PAY_{name}"] for name in ("API_KEY", "API_V3_KEY", "APP_SECRET")]
        secret_ones.append(here.given["MINITILL_WEBHOOK_SECRET"])
        here.fault("refuse", ["query", "certificates", "echo", "login"], code="SIGN_ERROR")
        told = as_json(await examine(here.given)) + as_table(await examine(here.given))
        assert not [secret for secret in secret_ones if secret in told]


async def test_a_base_address_where_nobody_listens(tmp_path):
    async with world(tmp_path) as here:
        found = await here.findings(WECHAT_PAY_BASE_URL=NOBODY, WECHAT_PAY_APP_SECRET="")
        await only(found, "WeChat Pay's address", "refused", "connections out")
        assert found["V3 signed query"].verdict is Verdict.FINE  # by the backup address


async def test_without_any_address_nothing_more_is_asked(tmp_path):
    async with world(tmp_path) as here:
        nowhere = {"WECHAT_PAY_BASE_URL": NOBODY, "WECHAT_PAY_BACKUP_URL": "", "WECHAT_PAY_APP_SECRET": ""}
        found = await only(await here.findings(**nowhere), "WeChat Pay's address")
        assert "tells nothing before" in found["V3 signed query"].found
        assert found["V3 signed query"].verdict is found["security echo"].verdict is Verdict.SKIPPED


async def test_a_backup_address_where_nobody_listens(tmp_path):
    async with world(tmp_path) as here:
        found = await here.findings(WECHAT_PAY_BACKUP_URL=NOBODY)
        await only(found, "WeChat Pay's backup address", "connections out")


async def test_a_name_that_nobody_knows():
    found = await doctor_reach.reach("https://nobody.invalid")
    assert (found.verdict, "DNS" in found.remedy) == (Verdict.FAILED, True)


async def test_a_certificate_that_nobody_trusts():
    simulator = Simulator(account())
    await simulator.start("127.0.0.1", 0, tls_port=0)
    try:
        found = await doctor_reach.reach(simulator.tls_url)
        assert (found.verdict, "not trusted" in found.found) == (Verdict.FAILED, True)
        assert "ca-certificates" in found.remedy
        found = await doctor_reach.ask_notify(f"{simulator.tls_url}{PATH}", None)
        assert (found.verdict, "trusts" in found.remedy) == (Verdict.FAILED, True)
        found = await doctor_reach.reach(simulator.url.replace("http:", "https:"))
        assert (found.verdict, "no TLS" in found.found) == (Verdict.FAILED, True)
    finally:
        await simulator.stop()


@pytest.mark.parametrize("skew", [90, -90])
async def test_a_clock_that_is_off_is_told_before_wechat_refuses(tmp_path, skew):
    """R5: by both of WeChat's clocks, well before 300 s."""
    async with world(tmp_path) as here:
        here.simulator.clock.disagree(timedelta(seconds=skew))
        await only(await here.findings(), "clock by WeChat", "Date", "Wechatpay-Timestamp", "run NTP")


async def test_a_clock_that_wechat_refuses_is_not_mistaken_for_a_wrong_key(tmp_path):
    """R5."""
    async with world(tmp_path) as here:
        here.simulator.clock.disagree(timedelta(seconds=400))
        found = await here.findings()
        assert wrong(found) == ["clock by WeChat", "V3 signed query"]
        assert "run NTP" in found["V3 signed query"].remedy


async def test_a_clock_that_is_a_little_off_is_fine(tmp_path):
    """R5."""
    async with world(tmp_path) as here:
        here.simulator.clock.disagree(timedelta(seconds=50))
        assert wrong(await here.findings()) == []


async def test_a_wrong_v2_key(tmp_path):
    async with world(tmp_path) as here:
        found = await here.findings(WECHAT_PAY_API_KEY="k" * 32)
        await only(found, "V2 signed query", "签名错误", "WECHAT_PAY_API_KEY")


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("MCH_NOT_EXISTS", "WECHAT_PAY_MCH_ID"),
        ("APPID_MCHID_NOT_MATCH", "bind WECHAT_PAY_APPID"),
        ("APPID_NOT_EXIST", "WECHAT_PAY_APPID"),
        ("NO_AUTH", "JSAPI支付"),
        ("SIGN_ERROR", "WECHAT_PAY_API_KEY"),
        ("FREQUENCY_LIMITED", "wait a minute"),
    ],
)
async def test_each_refusal_of_the_v2_query_has_its_remedy(tmp_path, code, remedy):
    async with world(tmp_path) as here:
        here.fault("refuse", ["query"], code=code)
        found = await here.findings(WECHAT_PAY_API_V3_KEY="")
        await only(found, "V2 signed query", remedy)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("MCH_NOT_EXISTS", "WECHAT_PAY_MCH_ID"),
        ("SIGN_ERROR", "apiclient_key.pem"),
        ("NO_AUTH", "JSAPI支付"),
        ("PARAM_ERROR", "names the parameter"),
        ("RATELIMIT_EXCEEDED", "wait a minute"),
        ("SYSTEM_ERROR", "busy"),
    ],
)
async def test_each_refusal_of_the_v3_query_has_its_remedy(tmp_path, code, remedy):
    async with world(tmp_path) as here:
        here.fault("refuse", ["query"], code=code)
        found = await here.findings(WECHAT_PAY_API_KEY="")
        await only(found, "V3 signed query", remedy)
        if code in {"SIGN_ERROR", "NO_AUTH"}:
            assert "Request-ID suffix 2684" in found["V3 signed query"].found


async def test_another_merchant_s_number_is_found_out(tmp_path):
    async with world(tmp_path) as here:
        found = await here.findings(WECHAT_PAY_MCH_ID="1900000109")
        assert wrong(found) == ["V2 signed query", "V3 signed query"]
        assert all("WECHAT_PAY_MCH_ID" in found[name].remedy for name in wrong(found))


async def test_another_appid_is_found_out_by_v2(tmp_path):
    async with world(tmp_path) as here:
        found = await here.findings(WECHAT_PAY_APPID="wx0000000000000000", WECHAT_PAY_APP_SECRET="")
        await only(found, "V2 signed query", "bind WECHAT_PAY_APPID")


async def test_without_v2_the_binding_is_a_hint(tmp_path):
    async with world(tmp_path) as here:
        found = (await here.findings(WECHAT_PAY_API_KEY=""))["appid and mch_id"]
        assert (found.verdict, "bind" in found.remedy) == (Verdict.SKIPPED, True)


async def test_an_answer_signed_with_another_v2_key_proves_nothing(tmp_path):
    async with world(tmp_path) as here:
        here.fault("wrong_signature", ["query"])
        found = await here.findings(WECHAT_PAY_API_V3_KEY="")
        await only(found, "V2 signed query", "WECHAT_PAY_API_KEY")


async def test_a_silent_wechat_is_told_as_such(tmp_path):
    async with world(tmp_path) as here:
        here.fault("cut_before", ["query"])
        found = await here.findings(WECHAT_PAY_API_V3_KEY="")
        await only(found, "V2 signed query", "connection", "again")


async def test_a_wrong_apiv3_key(tmp_path):
    async with world(tmp_path) as here:
        found = await here.findings(WECHAT_PAY_API_V3_KEY="3" * 32)
        await only(found, "platform certificates", "WECHAT_PAY_API_V3_KEY")


async def test_certificates_that_do_not_verify(tmp_path):
    async with world(tmp_path) as here:
        here.fault("wrong_signature", ["certificates"])
        await only(await here.findings(), "platform certificates", "signature")


async def test_certificates_that_a_public_key_merchant_has_not(tmp_path):
    """R52: no fault where the public key is held, and the cause where it is not."""
    async with world(tmp_path) as here:
        here.simulator.platform.keys.public_key_only = True
        found = await here.findings()
        assert wrong(found) == []
        assert found["platform certificates"].verdict is Verdict.SKIPPED
        assert found["WeChat Pay public key"].verdict is found["security echo"].verdict is Verdict.FINE
        found = await here.findings(WECHAT_PAY_PUBLIC_KEY_ID="")
        await only(found, "platform certificates", "WECHAT_PAY_PUBLIC_KEY_ID")


async def test_a_public_key_that_is_another_s(tmp_path):
    """R52."""
    async with world(tmp_path) as here:
        folder = copied(tmp_path)
        (folder / "pub_key.pem").write_bytes(public_pem(make_key()))
        found = await here.findings(WECHAT_PAY_CERTS_DIR=str(folder))
        await only(found, "WeChat Pay public key", "signature", "pub_key.pem")
        assert "tells nothing before" in found["security echo"].found


async def test_a_public_key_id_that_wechat_does_not_know(tmp_path):
    """R52."""
    async with world(tmp_path) as here:
        found = await here.findings(WECHAT_PAY_PUBLIC_KEY_ID="PUB_KEY_ID_0123")
        await only(found, "WeChat Pay public key", "does not know", "WECHAT_PAY_PUBLIC_KEY_ID")


async def test_an_echo_that_does_not_verify_and_one_that_is_not_offered(tmp_path):
    async with world(tmp_path) as here:
        here.fault("wrong_signature", ["echo"])
        await only(await here.findings(), "security echo", "signature", "proxy")
        here.simulator.faults.clear()
        here.fault("refuse", ["echo"], code="RESOURCE_NOT_EXISTS")
        found = await here.findings()
        assert (wrong(found), found["security echo"].verdict) == ([], Verdict.SKIPPED)
        here.fault("refuse", ["echo"], code="NO_AUTH")
        await only(await here.findings(), "security echo", "NO_AUTH")


@pytest.mark.parametrize(
    ("status", "body", "verdict", "word"),
    [
        (401, REFUSED, Verdict.FINE, "refused a false signature"),
        (400, "<xml><return_code>FAIL</return_code></xml>", Verdict.FINE, "refused a false signature"),
        (200, REFUSED, Verdict.FAILED, "something else answers there"),
        (204, "", Verdict.FAILED, "something else answers there"),
        (302, "", Verdict.FAILED, "redirect"),
        (404, "<html>nginx</html>", Verdict.FAILED, "not in minitill's words"),
        (403, "[]", Verdict.FAILED, "not in minitill's words"),
        (502, "Bad Gateway", Verdict.FAILED, "not in minitill's words"),
        (500, REFUSED, Verdict.FAILED, "fault of its own"),
    ],
)
async def test_who_answers_at_notify_url(tmp_path, status, body, verdict, word):
    """R21, R26."""
    async with world(tmp_path, status, body) as here:
        found = await here.findings()
        assert (found["notify_url's answer"].verdict, wrong(found)) == (
            verdict,
            ["notify_url's answer"] if verdict is Verdict.FAILED else [],
        )
        assert word in found["notify_url's answer"].found
        ((headers, sent),) = here.notify.heard
        assert headers["Wechatpay-Signature"].startswith("WECHATPAY/SIGNTEST/")
        assert sent == b"{}"


async def test_a_notify_url_that_can_not_be_reached_from_here_is_only_a_warning(tmp_path):
    """R21: behind NAT nobody reaches their own public address."""
    async with world(tmp_path) as here:
        found = await here.findings(WECHAT_PAY_NOTIFY_URL=f"{NOBODY}{PATH}")
        assert wrong(found) == []
        assert found["notify_url's answer"].verdict is Verdict.WARNING
        assert "from outside" in found["notify_url's answer"].remedy


@pytest.mark.parametrize(
    ("url", "addresses", "verdict", "word"),
    [
        ("https://shop.example.com/n", ["203.0.114.7", "2600::1"], Verdict.FINE, "203.0.114.7"),
        ("http://shop.example.com/n", ["203.0.114.7"], Verdict.WARNING, "plain http"),
        ("https://shop.example.com/n", ["203.0.114.7", "10.0.0.7"], Verdict.FAILED, "at 10.0.0.7"),
        ("https://shop.example.com/n", ["127.0.0.1"], Verdict.FAILED, "127.0.0.1"),
        ("https://shop.example.com/n", None, Verdict.FAILED, "not found"),
    ],
)
async def test_wechat_can_call_public_addresses_only(url, addresses, verdict, word):
    """R21."""

    async def resolve(host):
        assert host == "shop.example.com"
        if addresses is None:
            raise OSError
        return addresses

    found = await doctor_reach.public(url, resolve, is_outside)
    assert (found.verdict, word in found.found) == (verdict, True)
    assert bool(found.remedy) is (verdict is not Verdict.FINE)


async def test_a_wrong_app_secret(tmp_path):
    async with world(tmp_path) as here:
        found = await here.findings(WECHAT_PAY_APP_SECRET="0" * 32)
        await only(found, "AppSecret", "40125", "WECHAT_PAY_APP_SECRET")


async def test_a_busy_login(tmp_path):
    async with world(tmp_path) as here:
        here.fault("system_error", ["login"])
        await only(await here.findings(), "AppSecret", "busy", "again")


async def test_a_shop_that_has_no_address_or_only_an_inner_one(tmp_path):
    async with world(tmp_path) as here:

        async def unknown(_host):
            raise OSError

        async def inner(_host):
            return ["10.0.0.7"]

        found = await here.findings({"resolve": unknown})
        await only(found, "webhook's host", "not found", "MINITILL_WEBHOOK_URL")
        public = {
            "MINITILL_WEBHOOK_URL": "https://shop.example.com/hook?key=hush",
            "MINITILL_WEBHOOK_ALLOW_PRIVATE": "false",
        }
        found = await here.findings({"resolve": inner}, **public)
        await only(found, "webhook's host", "10.0.0.7", "ALLOW_PRIVATE")
        assert "hush" not in as_json(list(found.values()))


async def test_wrong_settings_come_first_and_nobody_is_asked(tmp_path):
    async with world(tmp_path) as here:
        folder = copied(tmp_path)
        (folder / "apiclient_key.pem").write_bytes(private_pem(make_key()))
        found = await here.findings(WECHAT_PAY_CERTS_DIR=str(folder))
        await only(found, "WECHAT_PAY_CERTS_DIR", "do not belong together")  # R2
        assert found["asking WeChat"].verdict is Verdict.SKIPPED
        assert not here.simulator.platform.calls


async def test_offline_nobody_is_called_and_each_way_to_wechat_is_judged(tmp_path):
    """R52."""
    async with world(tmp_path) as here:
        found = {one.name: one for one in await examine(here.given, offline=True)}
        ways = ("V2", "V3 with platform certificates", "V3 with the WeChat Pay public key")
        assert [found[way].verdict for way in ways] == [Verdict.FINE] * 3
        less = {"WECHAT_PAY_API_KEY": "", "WECHAT_PAY_PUBLIC_KEY_ID": ""}
        found = {one.name: one for one in await examine(here.given | less, offline=True)}
        assert "WECHAT_PAY_API_KEY" in found["V2"].found
        assert found["V3 with platform certificates"].verdict is Verdict.FINE
        assert found["V3 with the WeChat Pay public key"].found.endswith("missing: WECHAT_PAY_PUBLIC_KEY_ID")
        assert not here.simulator.platform.calls


async def test_v2_without_a_certificate_can_not_refund(tmp_path):
    async with world(tmp_path) as here:
        only_v2 = {
            "WECHAT_PAY_API_V3_KEY": "",
            "WECHAT_PAY_PUBLIC_KEY_ID": "",
            "WECHAT_PAY_CERTS_DIR": str(tmp_path),
        }
        found = {one.name: one for one in await examine(here.given | only_v2, offline=True)}
        assert (found["V2"].verdict, "refunds" in found["V2"].found) == (Verdict.WARNING, True)


async def test_a_dotenv_file_that_others_can_read_is_a_warning(tmp_path):
    dotenv = tmp_path / ".env"
    dotenv.write_text("")
    for mode, told in ((0o600, []), (0o644, [".env"])):
        dotenv.chmod(mode)
        found = await examine({}, offline=True, dotenv=dotenv)
        assert [one.name for one in found if one.verdict is Verdict.WARNING] == told


async def test_offline_without_any_setting_every_fault_has_its_line():
    found = await examine({}, offline=True)
    names = [one.name for one in found if one.verdict is Verdict.FAILED]
    assert {"MINITILL_TOKEN_SECRET", "WECHAT_PAY_MCH_ID", "WECHAT_PAY_NOTIFY_URL"} <= set(names)
    assert all(one.remedy for one in found if one.verdict is Verdict.FAILED)


async def test_a_misspelt_setting_is_a_warning(tmp_path):
    async with world(tmp_path) as here:
        found = {one.name: one for one in await examine(here.given | {"MINITILL_PROT": "1"}, offline=True)}
        assert (found["MINITILL_PROT"].verdict, wrong(found)) == (Verdict.WARNING, [])


async def test_the_machine_s_clock_is_looked_at_first(tmp_path):
    async with world(tmp_path) as here:
        found = {
            one.name: one for one in await examine(here.given, clock=lambda: datetime(1970, 1, 2, tzinfo=UTC))
        }
        await only(found, "clock", "1970-01-02", "NTP")


async def test_a_till_of_ours_at_notify_url_is_known_as_one(tmp_path):
    """R26: by V3's probe and by V2's, and neither leaves an order behind."""
    from entrypoints.settings import load
    from entrypoints.till import address_of, listen

    async with world(tmp_path) as here:
        with listen("127.0.0.1", 0) as door:
            till = await Till.open(load(here.given), with_jobs=False)
            try:
                await till.start(door)
                url = f"{address_of(door)}{PATH}"
                for moment in (till.container.clock()(), None):
                    found = await doctor_reach.ask_notify(url, moment)
                    assert found.verdict is Verdict.FINE, found
            finally:
                await till.stop()


async def test_a_check_that_takes_too_long_is_ended():
    async def forever(_bench):
        await doctor_reach.asyncio.Event().wait()

    async def quick(_bench):
        return fine("done")

    probes = (Probe("slow", forever), Probe("quick", quick), Probe("after", quick, unless=("slow",)))
    slow, done, after = await run(probes, None, seconds=0.01)
    assert (slow.verdict, "0.01 s" in slow.found) == (Verdict.FAILED, True)
    assert done == Finding("quick", Verdict.FINE, "done")
    assert (after.verdict, "slow" in after.found) == (Verdict.SKIPPED, True)


def test_a_need_is_met_by_any_of_its_choices():
    probe = Probe("x", None, needs=(("a", "b"),))
    assert probe.obstacle({"a": failed("", ""), "b": fine("")}) == ""
    assert probe.obstacle({"a": failed("", ""), "b": skipped("")}) == "a"
    assert probe.obstacle({}) == "a"


def test_the_table_marks_each_line_and_the_json_says_the_same():
    lines = [fine("good"), Finding("b", Verdict.FAILED, "bad", "mend"), Finding("c", Verdict.SKIPPED, "none")]
    table = as_table(lines).splitlines()
    assert [line[0] for line in table[:2]] == ["✔", "✘"]
    assert table[2].strip() == "→ mend"
    assert table[3].startswith("–")
    assert table[-1] == "1 to mend, 0 warning(s), 3 checks"
    told = json.loads(as_json(lines))
    assert told["ok"] is False
    assert told["findings"][1] == {"name": "b", "verdict": "failed", "found": "bad", "remedy": "mend"}
    assert json.loads(as_json([])) == {"ok": True, "findings": []}


@pytest.mark.slow
async def test_the_command_line_exits_by_what_was_found(tmp_path, runner):
    """The whole command as an operator starts it: 0 when all is fine, 1 when something is not."""
    async with world(tmp_path) as here:

        async def doctor(*arguments, **changes):
            loop = runner.get_loop()
            return await loop.run_in_executor(None, lambda: started(here.given | changes, *arguments))

        done = await doctor()
        assert (done.returncode, done.stderr) == (0, ""), done
        assert "✔ V3 signed query" in done.stdout
        assert "nothing to mend" in done.stdout
        done = await doctor("--json", WECHAT_PAY_API_KEY="k" * 32)
        assert (done.returncode, done.stderr) == (1, "")
        told = json.loads(done.stdout)
        bad = [one["name"] for one in told["findings"] if one["verdict"] == "failed"]
        assert (told["ok"], bad) == (False, ["V2 signed query"])
        assert (await doctor("--offline", "--json")).returncode == 0
        assert (await doctor("--offline", WECHAT_PAY_MCH_ID="1")).returncode == 1


def started(given, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "entrypoints", "doctor", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": ".", "PYTHONIOENCODING": "utf-8", **given},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

"""What Prometheus reads: counted as it happens, read from the store at the scrape, bounded in its labels."""

import json
import re
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from attrs import evolve

from adapters.http.errors import MESSAGE
from adapters.http.metrics_api import MetricsApi
from adapters.http.routes import Who
from adapters.metrics import CONTENT_TYPE, Gauges, Metrics, Sources, Vitals
from adapters.store.memory import MemoryStore
from adapters.wechat.watch import Watch
from application.access import Forbidden
from application.errors import StoreUnavailable, WechatRefused, WechatSilent
from application.jobs import SIGN_OF_LIFE, Foreman, Job, Round
from application.outbox import Delivery, LetterState
from application.payments import NewOrder
from application.ports import Refused, Unknown
from domain.errors import Discrepancy, FeeMismatch
from domain.trade import Trade, TradeState
from tests.http_till import QUERY, ScriptedGateway, Till
from tests.notify_till import NotifyTill
from tests.test_notify_v3 import message, transaction
from tests.test_sandbox import TEA as BODY
from tests.test_sandbox import call, sandbox
from tests.wechat_side import (
    NOW,
    PLATFORM_SERIAL,
    PUBLIC_KEY_ID,
    certificate_pem,
    lines,
    order,
    public_key_merchant,
    v3_error,
    v3_headers,
)

FOLDER = Path(__file__).parent.parent / "docs" / "operations"
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
NAMED = re.compile(r"\b(?:minitill|process)_\w+")
TEA = NewOrder(openid="oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", total_fee=100, body="tea")


def gauges(store=None, metrics=None, now=NOW, **sources):
    store = store or MemoryStore()
    found = Sources(orders=store, agenda=store, outbox=store, jobs=store, **sources)
    return Gauges(metrics or Metrics(), found, lambda: now)


async def read(board):
    """Every sample by its name and labels."""
    text = (await board.render()).decode()
    return {
        f"{name}{{{labels}}}" if labels else name: float(value)
        for name, labels, value in SAMPLE.findall(text)
    }


def samples(metrics):
    """What was counted so far, zeros left out."""
    return {
        (sample.name.removeprefix("minitill_"), *sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.value and sample.name.startswith("minitill_") and not sample.name.endswith("_created")
    }


# -- counted as it happens -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (None, "accepted"),
        (Refused(meaning="PAYER", err_code="X"), "refused"),
        (Unknown(why="silence"), "unknown"),
    ],
)
async def test_new_orders_are_counted_by_what_wechat_answered(answer, outcome):
    till = Till()
    till.gateway.answer = answer or till.gateway.answer
    metrics = Metrics()
    payments = evolve(till.payments, observer=metrics)
    with suppress(WechatRefused, WechatSilent):
        await payments.create(TEA, "test")
    assert samples(metrics) == {("creates_total", outcome): 1}


async def test_a_discrepancy_is_counted_wherever_it_comes_from():
    """R28: by notification or by query."""
    till, metrics = Till(), Metrics()
    payments = evolve(till.payments, observer=metrics)
    placed = (await payments.create(TEA, "test")).order
    word = Trade(
        out_trade_no=placed.out_trade_no,
        trade_state=TradeState.SUCCESS,
        appid=placed.placement.appid,
        mch_id=placed.placement.mch_id,
        transaction_id="4200",
        total_fee=99,
        time_end=till.now,
    )
    with pytest.raises(FeeMismatch):
        await payments.record(word, "query")
    assert samples(metrics)["discrepancies_total", "FEE_MISMATCH"] == 1


@pytest.fixture
def notified(runner, tmp_path):
    till = runner.run(NotifyTill.open(public_key_merchant(), tmp_path / "platform"))
    yield till
    runner.run(till.close())


async def test_a_switch_to_the_public_key_shows_as_it_goes(notified):
    """R52: how many notifications came signed by the certificate, how many by the public key."""
    await notified.holds()
    body = message(transaction())
    by_certificate = v3_headers(body)
    by_public_key = v3_headers(body, serial=PUBLIC_KEY_ID, signer="java_wechatpay")
    for headers in (by_certificate, by_certificate, by_public_key):
        assert (await notified.told(body, headers))[0] == 204
    counted = samples(notified.metrics)
    assert counted["verifications_total", "v3", "ok", PLATFORM_SERIAL] == 2
    assert counted["verifications_total", "v3", "ok", PUBLIC_KEY_ID] == 1
    assert counted["notifications_total", "v3", "taken"] == 3


async def test_no_stranger_makes_a_label(notified):
    """R52: the serials that forgers make up are one."""
    body = message(transaction())
    for n in range(20):
        await notified.told(body, v3_headers(body, serial=f"PUB_KEY_ID_{n}"))
    await notified.told(body, v3_headers(body, signer="java_merchant"))
    await notified.told(body, {"Wechatpay-Nonce": "x"})
    found = {
        key: value for key, value in samples(notified.metrics).items() if key[0] == "verifications_total"
    }
    assert found == {
        ("verifications_total", "v3", "serial", "unknown"): 20,
        ("verifications_total", "v3", "signature", PLATFORM_SERIAL): 1,
        ("verifications_total", "v3", "missing_header", ""): 1,
    }


@pytest.fixture
def line(runner, tmp_path):
    (tmp_path / "platform").mkdir()
    (tmp_path / "platform" / "go_platform.pem").write_bytes(certificate_pem())
    made = lines(runner, tmp_path)
    make = next(made)
    yield runner.run(make())
    next(made, None)


async def test_calls_are_timed_and_their_errors_counted_by_code(line):
    """R48: a code WeChat does not list makes no label of its own."""
    metrics = Metrics()
    watch = Watch(clock=line.clock, observer=metrics, monotonic=iter([0.0, 0.3, 1.0, 1.1]).__next__)
    gateway = evolve(line.gateway, watch=watch)
    line.wechat.says(v3_error(400, "PARAM_ERROR"), v3_error(400, "MADE_UP_TODAY"))
    await gateway.prepay(order())
    await gateway.query(order())
    counted = samples(metrics)
    assert counted["wechat_errors_total", "prepay", "refused", "PARAM_ERROR"] == 1
    assert counted["wechat_errors_total", "query", "unknown", "OTHER"] == 1
    assert counted["wechat_seconds_sum", "prepay"] == pytest.approx(0.3)
    assert ("wechat_seconds_bucket", "prepay", "0.25") not in counted
    assert counted["wechat_seconds_bucket", "prepay", "0.5"] == 1


async def test_requests_are_counted_by_route_and_never_by_path():
    metrics = Metrics()
    till = await Till().open(observer=metrics)
    try:
        for n in range(5):
            await till.client.get(f"{QUERY}PAY{n}")
            await till.client.get(f"/nowhere/{n}")
            await till.client.request("PROPFIND", "/nowhere")
    finally:
        await till.close()
    counted = samples(metrics)
    assert counted["http_requests_total", "GET", QUERY + "{out_trade_no}", "404"] == 5
    assert counted["http_requests_total", "GET", "-", "404"] == 5
    assert {key[1] for key in counted if key[0] == "http_requests_total"} == {"GET", "other"}
    assert counted["http_seconds_count", QUERY + "{out_trade_no}"] == 5


# -- read at the scrape --------------------------------------------------------------------------


async def test_an_empty_till_reads_zero_everywhere():
    seen = await read(gauges())
    assert seen["minitill_store_up"] == 1
    assert seen['minitill_orders{status="PAID"}'] == 0
    assert seen["minitill_pending_oldest_seconds"] == 0
    assert seen["minitill_unanswered_orders"] == 0
    assert seen["minitill_outbox_lag_seconds"] == 0
    assert seen['minitill_discrepancies_total{code="FEE_MISMATCH"}'] == 0
    assert seen['minitill_notifications_total{result="signature",version="v3"}'] == 0
    assert seen["process_open_fds"] > 0


async def test_unknown_outcomes_and_their_age_are_seen_until_they_are_known(store):
    till = Till(store=store)
    till.gateway.answer = Unknown(why="silence")
    with pytest.raises(WechatSilent):
        await till.payments.create(TEA, "test")
    board = gauges_of(store, till.now + timedelta(minutes=11))
    seen = await read(board)
    assert seen["minitill_unanswered_orders"] == 1
    assert seen["minitill_unanswered_oldest_seconds"] == 660
    assert seen["minitill_pending_oldest_seconds"] == 660
    assert seen['minitill_orders{status="PENDING"}'] == 1
    (when,) = await store.agenda.unanswered(10)
    till.gateway.answer = ScriptedGateway().answer
    number = (await store.orders.newest(1))[0].out_trade_no
    await till.payments.pay(number, "test")
    assert when == till.now
    assert (await read(board))["minitill_unanswered_orders"] == 0


def gauges_of(store, now):
    found = Sources(orders=store.orders, agenda=store.agenda, outbox=store.outbox, jobs=store.jobs)
    return Gauges(Metrics(), found, lambda: now)


async def test_letters_that_wait_and_letters_given_up_on_are_seen():
    store = MemoryStore(listening=True)
    await store.save(order())
    board = gauges(store, now=NOW + timedelta(days=3650))
    assert (await read(board))["minitill_outbox_lag_seconds"] > 0
    (letter,) = await store.due(NOW + timedelta(days=3650), 1)
    await store.settle(
        letter, Delivery(event_id=letter.event.id, at=NOW, heard=False), LetterState.SET_ASIDE, NOW
    )
    seen = await read(board)
    assert (seen["minitill_outbox_lag_seconds"], seen["minitill_outbox_set_aside"]) == (0, 1)


async def test_the_days_of_each_certificate_and_the_clock_are_seen():
    """R5."""
    ends = {
        ("merchant", "AB"): NOW + timedelta(days=29, hours=12),
        ("platform", "CD"): NOW - timedelta(days=1),
    }
    vitals = [Vitals(skew_seconds=-61.5, expiries=ends), Vitals()]
    board = gauges(vitals=lambda: vitals.pop(0))
    seen = await read(board)
    assert seen['minitill_certificate_days_left{owner="merchant",serial="AB"}'] == 29.5
    assert seen['minitill_certificate_days_left{owner="platform",serial="CD"}'] == -1
    assert seen["minitill_clock_skew_seconds"] == -61.5
    assert "certificate_days_left{" not in (await board.render()).decode()


async def test_a_database_that_gives_way_is_a_metric_and_no_failed_scrape(caplog):
    class Broken(MemoryStore):
        async def counts(self):
            raise StoreUnavailable("disk full")

    metrics = Metrics()
    metrics.created("accepted")
    seen = await read(gauges(Broken(), metrics))
    assert seen["minitill_store_up"] == 0
    assert seen['minitill_creates_total{outcome="accepted"}'] == 1
    assert "STORE" in caplog.text or "StoreUnavailable" in caplog.text


async def test_jobs_show_when_they_ran_how_often_they_should_and_how_they_failed(store):
    await store.jobs.release("janitor", "a", Round(at=NOW, done=1, failed=True, next_at=NOW))
    job = Job(name="janitor", round=None, every=timedelta(seconds=5))
    found = Sources(
        orders=store.orders,
        agenda=store.agenda,
        outbox=store.outbox,
        jobs=store.jobs,
        schedule=lambda: (job,),
    )
    seen = await read(Gauges(Metrics(), found, lambda: NOW))
    assert seen['minitill_job_last_run_timestamp_seconds{name="janitor"}'] == NOW.timestamp()
    assert seen['minitill_job_interval_seconds{name="janitor"}'] == 5
    assert seen['minitill_job_failures{name="janitor"}'] == 1


async def test_an_idle_job_gives_a_sign_of_life_each_minute_and_no_more():
    """So that a job that stopped can be told from one that has nothing to do."""
    store, now = MemoryStore(), [NOW]

    async def idle():
        return 0

    foreman = Foreman(book=store, clock=lambda: now[0], holder="a")
    job = Job(name="janitor", round=idle, every=timedelta(seconds=5), shared=True)
    for seconds in range(0, 180, 5):
        now[0] = NOW + timedelta(seconds=seconds)
        await foreman.run(job)
    (ran,) = await store.ran()
    assert (ran.runs, ran.last_run_at) == (3, NOW + 2 * SIGN_OF_LIFE)


# -- who may read --------------------------------------------------------------------------------


async def refuse(_request, _route):
    raise Forbidden("not you")


async def test_metrics_are_the_operator_s_unless_they_are_open():
    closed = MetricsApi(render=gauges().render, content_type=CONTENT_TYPE)
    opened = MetricsApi(render=gauges().render, content_type=CONTENT_TYPE, is_open=True)
    assert (closed.routes()[0].who, opened.routes()[0].who) == (Who.OPERATOR, Who.ANYONE)
    for api, status in ((closed, 403), (opened, 200)):
        till = await Till().open(*api.routes(), guard=refuse)
        try:
            async with till.client.get("/metrics") as answer:
                assert answer.status == status
                text = await answer.text()
                assert ("minitill_store_up 1.0" in text) == (status == 200)
                assert answer.headers["Content-Type"].startswith("text/plain")
        finally:
            await till.close()
    assert Forbidden.code in MESSAGE


@pytest.mark.slow
def test_the_running_service_shows_what_it_counts():
    with sandbox() as (service, _):
        assert call(f"{service}/api/wechat/pay/create", BODY)[0] == 200
        with pytest.raises(HTTPError):
            urlopen(f"{service}/api/wechat/pay/notify", b"forged")
        with urlopen(f"{service}/metrics") as answer:
            text = answer.read().decode()
        (failure,) = call(f"{service}/api/wechat/pay/failures")[1]["data"]
    assert 'minitill_creates_total{outcome="accepted"} 1.0' in text
    assert 'minitill_notifications_total{result="malformed",version="v2"} 1.0' in text
    assert 'route="/api/wechat/pay/create",status="200"} 1.0' in text
    assert 'minitill_job_last_run_timestamp_seconds{name="janitor"}' in text
    assert 'minitill_certificate_days_left{owner="merchant"' in text
    assert (failure["kind"], failure["code"]) == ("notify.v2", "MALFORMED")


@pytest.mark.slow
def test_metrics_can_be_turned_off():
    with (
        sandbox(MINITILL_METRICS="off") as (service, _),
        pytest.raises(HTTPError, match="404"),
    ):
        urlopen(f"{service}/metrics")


# -- dashboard and alerts ------------------------------------------------------------------------


def known_names():
    """Every name a query may use."""
    board = gauges()
    made = {
        sample.name
        for family in board.metrics.registry.collect()
        for sample in [*family.samples, family]
        if not sample.name.endswith("_created")
    }
    histograms = {family.name for family in board.metrics.registry.collect() if family.type == "histogram"}
    counters = {
        f"{family.name}_total" for family in board.metrics.registry.collect() if family.type == "counter"
    }
    return (
        made | counters | {f"{name}{part}" for name in histograms for part in ("_bucket", "_sum", "_count")}
    )


def alert_rules():
    """The rules of alerts.yml, read as plainly as they are written: (name, expr, summary)."""
    text = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
    rules = re.findall(
        r"- alert: (\w+)\n +expr: (.+)\n(?: +for: \w+\n)? +labels: \{severity: (?:warning|critical)\}\n"
        r" +annotations:\n +summary: \"([^\"\n]+)\"\n",
        text,
    )
    assert len(rules) == text.count("- alert:")
    assert "\t" not in text
    return rules


def panels():
    return json.loads((FOLDER / "grafana-dashboard.json").read_text(encoding="utf-8"))["panels"]


def test_every_metric_that_an_alert_names_exists():
    rules = alert_rules()
    names = {name for _, expr, _ in rules for name in NAMED.findall(expr)}
    assert names <= known_names()
    assert len(rules) == len({name for name, _, _ in rules}) >= 9


def test_every_metric_that_a_panel_names_exists_and_every_metric_has_a_panel():
    shown = {
        name for panel in panels() for target in panel["targets"] for name in NAMED.findall(target["expr"])
    }
    assert shown <= known_names()
    board = gauges()
    for family in board.metrics.registry.collect():
        if family.name.startswith("minitill_") and family.name != "minitill_job_interval_seconds":
            assert any(name.startswith(family.name) for name in shown), family.name


def test_panels_do_not_overlap_and_have_ids_of_their_own():
    taken = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


@pytest.mark.parametrize("brackets", ["()", "{}", "[]"])
def test_every_query_closes_what_it_opens(brackets):
    queries = [expr for _, expr, _ in alert_rules()]
    queries += [target["expr"] for panel in panels() for target in panel["targets"]]
    for query in queries:
        assert query.count(brackets[0]) == query.count(brackets[1]), query


def test_every_discrepancy_begins_at_zero():
    seen = Metrics().registry.get_sample_value
    for kind in (Discrepancy, *Discrepancy.__subclasses__()):
        assert seen("minitill_discrepancies_total", {"code": kind.code}) == 0

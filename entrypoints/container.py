"""The composition root: the one place that knows every class by name."""

import secrets
import string
from datetime import UTC, datetime

from dependency_injector import containers, providers

from adapters.http.access import AccessGuard, KeyRing
from adapters.http.api import PaymentApi
from adapters.http.failures_api import FailureApi
from adapters.http.life_api import LetterApi, OrderLifeApi, RefundApi
from adapters.http.login_api import LoginApi
from adapters.http.metrics_api import MetricsApi
from adapters.http.quotes import Quotes
from adapters.http.tokens import Tokens
from adapters.http.trace import note
from adapters.metrics import CONTENT_TYPE, Gauges, Metrics, Sources
from adapters.webhook import ShopBackend
from adapters.wechat import miniprogram
from adapters.wechat.certificates import Certificates
from adapters.wechat.client import Client
from adapters.wechat.gateway import WechatGateway
from adapters.wechat.notices import V2Notices, V3Notices
from adapters.wechat.notify import Notify
from adapters.wechat.v2 import V2
from adapters.wechat.v3 import V3
from adapters.wechat.watch import Watch
from application.courier import Courier
from application.failures import FailureBook
from application.janitor import Janitor
from application.payments import Payments
from application.ports import Clock
from application.refunds import Refunds
from entrypoints.jobs import Work
from entrypoints.numbers import Numbers
from entrypoints.settings import Settings
from entrypoints.signs import Schedule, Signs, days, is_for_all

ALPHANUMERIC = string.ascii_letters + string.digits


def now() -> datetime:
    """The moment, aware UTC."""
    return datetime.now(UTC)


def nonce() -> str:
    """32 letters and digits that nobody can guess (v2.md section 3)."""
    return "".join(secrets.choice(ALPHANUMERIC) for _ in range(32))


def shop_backend(settings: Settings) -> ShopBackend | None:
    """The shop that hears what happened, if one does."""
    if not settings.webhook_url:
        return None
    return ShopBackend(
        url=settings.webhook_url,
        secrets=settings.webhook_secret,
        allow_private=settings.webhook_allow_private,
    )


def is_open_mode(settings: Settings) -> bool:
    """Whether anyone may do what a payer or the shop's backend may."""
    return settings.auth_mode == "open"


def weixin_client(settings: Settings, clock: Clock) -> Client:
    """The line to the mini-program's side of WeChat."""
    base_url, backup_url = miniprogram.addresses(settings.base_url)
    return Client(
        clock=clock,
        base_url=base_url,
        backup_url=backup_url,
        read_seconds=settings.timeout_seconds,
    )


class Container(containers.DeclarativeContainer):
    """Settings in, a service out; tests override the outer edges."""

    settings: providers.Dependency[Settings] = providers.Dependency(instance_of=Settings)
    store: providers.Dependency[object] = providers.Dependency()  # opened by the entrypoint

    clock = providers.Object(now)
    nonce = providers.Object(nonce)
    merchant = settings.provided.merchant

    metrics = providers.Singleton(Metrics)
    failures = providers.Singleton(
        FailureBook,
        failures=store.provided.failures,
        clock=clock,
        keep_for=providers.Callable(days, settings.provided.failures_days),
    )
    watch = providers.Singleton(Watch, clock=clock, book=failures, observer=metrics)

    client = providers.Singleton(
        Client,
        clock=clock,
        base_url=settings.provided.base_url,
        backup_url=settings.provided.backup_url,
        read_seconds=settings.provided.timeout_seconds,
        certificate=merchant.certificate,  # what V2's refunds show, if it is there
    )
    certificates = providers.Singleton(
        Certificates,
        merchant=merchant,
        client=client,
        folder=settings.provided.platform_folder,
        clock=clock,
        nonce=nonce,
        watch=watch,
    )
    v2 = providers.Singleton(V2, merchant=merchant, client=client, clock=clock, nonce=nonce)
    v3 = providers.Singleton(
        V3, merchant=merchant, client=client, certificates=certificates, clock=clock, nonce=nonce
    )
    gateway = providers.Singleton(WechatGateway, merchant=merchant, v2=v2, v3=v3, watch=watch)

    payments = providers.Singleton(
        Payments,
        orders=store.provided.orders,
        answers=store.provided.answers,
        gateway=gateway,
        clock=clock,
        mint=providers.Singleton(Numbers, "PAY", clock),
        limits=settings.provided.fee_limits,
        expire_minutes=settings.provided.order_ttl_minutes,
        refund_late=settings.provided.refund_late,
        observer=metrics,
    )
    refunds = providers.Singleton(
        Refunds,
        orders=store.provided.orders,
        answers=store.provided.answers,
        agenda=store.provided.agenda,
        gateway=gateway,
        payments=payments,
        clock=clock,
        mint=providers.Singleton(Numbers, "REF", clock),
    )
    janitor = providers.Singleton(Janitor, agenda=store.provided.agenda, payments=payments, clock=clock)
    shop = providers.Singleton(shop_backend, settings)
    courier = providers.Singleton(Courier, outbox=store.provided.outbox, backend=shop, clock=clock)
    notify = providers.Singleton(
        Notify,
        payments=payments,
        failures=failures,
        observer=metrics,
        note=providers.Object(note),
        refunds=refunds,
        clock=clock,
        v2=providers.Singleton(V2Notices, merchant, payments),
        v3=providers.Singleton(V3Notices, merchant, certificates),
    )
    weixin = providers.Singleton(weixin_client, settings, clock)
    logins = providers.Singleton(
        miniprogram.MiniProgram,
        client=weixin,
        appid=merchant.appid,
        app_secret=settings.provided.app_secret,
    )
    tokens = providers.Singleton(
        Tokens,
        secrets=settings.provided.token_secret,
        appid=merchant.appid,
        hours=settings.provided.token_hours,
        clock=clock,
    )
    quotes = providers.Singleton(Quotes, secrets=settings.provided.quote_secret, clock=clock)
    guard = providers.Singleton(
        AccessGuard,
        tokens=tokens,
        ring=providers.Singleton(KeyRing, store.provided.keys, clock),
        is_open=providers.Callable(is_open_mode, settings),
    )
    login_api = providers.Singleton(LoginApi, logins=logins, tokens=tokens)
    payment_api = providers.Singleton(PaymentApi, payments, quotes=quotes)
    order_life_api = providers.Singleton(OrderLifeApi, payments, store.provided.orders, store.provided.outbox)
    refund_api = providers.Singleton(RefundApi, refunds)
    letter_api = providers.Singleton(LetterApi, store.provided.outbox, clock)
    failure_api = providers.Singleton(FailureApi, failures)
    work = providers.Singleton(
        Work,
        janitor=janitor,
        refunds=refunds,
        courier=courier,
        answers=store.provided.answers,
        certificates=certificates,
        failures=failures,
        clock=clock,
    )
    metrics_api = providers.Singleton(
        MetricsApi,
        render=providers.Singleton(
            Gauges,
            metrics=metrics,
            sources=providers.Singleton(
                Sources,
                orders=store.provided.orders,
                agenda=store.provided.agenda,
                outbox=store.provided.outbox,
                jobs=store.provided.jobs,
                vitals=providers.Singleton(Signs, settings, certificates, client),
                schedule=providers.Singleton(Schedule, settings, work),
            ),
            clock=clock,
        ).provided.render,
        content_type=CONTENT_TYPE,
        is_open=providers.Callable(is_for_all, settings),
    )

"""The composition root: the one place that knows every class by name."""

import secrets
import string
from datetime import UTC, datetime
from pathlib import Path

from dependency_injector import containers, providers

from adapters.http.api import PaymentApi
from adapters.http.life_api import LetterApi, OrderLifeApi, RefundApi
from adapters.webhook import ShopBackend
from adapters.wechat.certificates import Certificates
from adapters.wechat.client import Client
from adapters.wechat.gateway import WechatGateway
from adapters.wechat.merchant import Merchant
from adapters.wechat.notices import V2Notices, V3Notices
from adapters.wechat.notify import Notify
from adapters.wechat.v2 import V2
from adapters.wechat.v3 import V3
from application.courier import Courier
from application.janitor import Janitor
from application.payments import Payments
from application.refunds import Refunds
from entrypoints.jobs import Work
from entrypoints.numbers import Numbers
from entrypoints.settings import Settings

ALPHANUMERIC = string.ascii_letters + string.digits


def now() -> datetime:
    """The moment, aware UTC."""
    return datetime.now(UTC)


def nonce() -> str:
    """32 letters and digits that nobody can guess (v2.md section 3)."""
    return "".join(secrets.choice(ALPHANUMERIC) for _ in range(32))


def certificate_files(merchant: Merchant) -> tuple[Path, Path] | None:
    """The files that V2's refunds show, if they are there."""
    if merchant.certificate_path is None or merchant.private_key_path is None:
        return None
    return merchant.certificate_path, merchant.private_key_path


def shop_backend(settings: Settings) -> ShopBackend | None:
    """The shop that hears what happened, if one does."""
    if not settings.webhook_url:
        return None
    return ShopBackend(
        url=settings.webhook_url,
        secrets=settings.webhook_secret,
        allow_private=settings.webhook_allow_private,
    )


class Container(containers.DeclarativeContainer):
    """Settings in, a service out; tests override the outer edges."""

    settings: providers.Dependency[Settings] = providers.Dependency(instance_of=Settings)
    store: providers.Dependency[object] = providers.Dependency()  # opened by the entrypoint

    clock = providers.Object(now)
    nonce = providers.Object(nonce)
    merchant = settings.provided.merchant

    client = providers.Singleton(
        Client,
        clock=clock,
        base_url=settings.provided.base_url,
        backup_url=settings.provided.backup_url,
        read_seconds=settings.provided.timeout_seconds,
        certificate=providers.Callable(certificate_files, merchant),
    )
    certificates = providers.Singleton(
        Certificates,
        merchant=merchant,
        client=client,
        folder=settings.provided.platform_folder,
        clock=clock,
        nonce=nonce,
    )
    v2 = providers.Singleton(V2, merchant=merchant, client=client, clock=clock, nonce=nonce)
    v3 = providers.Singleton(
        V3, merchant=merchant, client=client, certificates=certificates, clock=clock, nonce=nonce
    )
    gateway = providers.Singleton(WechatGateway, merchant=merchant, v2=v2, v3=v3)

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
        orders=store.provided.orders,
        refunds=refunds,
        clock=clock,
        v2=providers.Singleton(V2Notices, merchant, payments),
        v3=providers.Singleton(V3Notices, merchant, certificates),
    )
    payment_api = providers.Singleton(PaymentApi, payments)
    order_life_api = providers.Singleton(OrderLifeApi, payments, store.provided.orders, store.provided.outbox)
    refund_api = providers.Singleton(RefundApi, refunds)
    letter_api = providers.Singleton(LetterApi, store.provided.outbox, clock)
    work = providers.Singleton(
        Work,
        janitor=janitor,
        refunds=refunds,
        courier=courier,
        answers=store.provided.answers,
        certificates=certificates,
        clock=clock,
    )

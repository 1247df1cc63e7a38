"""Signs of life that metrics are made of, gathered from rooms that never meet."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import define, field

from adapters.metrics import Vitals
from adapters.wechat import v3_wire
from adapters.wechat.certificates import Certificates
from adapters.wechat.client import Client
from application.jobs import Job
from entrypoints.jobs import Work
from entrypoints.settings import Settings


@define
class Signs:
    """The clock against WeChat's, and the days that certificates have left."""

    settings: Settings
    certificates: Certificates
    client: Client
    _merchant_ends_at: datetime | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        path = self.settings.merchant.certificate_path
        if path is not None:
            self._merchant_ends_at = v3_wire.load_certificate(path.read_bytes()).expires_at

    def __call__(self) -> Vitals:
        """At this moment."""
        expiries = {
            ("platform", key.serial): key.expires_at
            for key in self.certificates.ring.keys.values()
            if key.expires_at is not None
        }
        if self._merchant_ends_at is not None:
            expiries["merchant", self.settings.merchant.serial] = self._merchant_ends_at
        return Vitals(skew_seconds=self.client.skew_seconds, expiries=expiries)


@define
class Schedule:
    """Which jobs there are; whether this process or another one runs them."""

    settings: Settings
    work: Work

    def __call__(self) -> Sequence[Job]:
        """With their pauses."""
        return (*self.work.own_jobs(), *self.work.jobs(with_courier=bool(self.settings.webhook_url)))


def days(number: int) -> timedelta:
    """So many days."""
    return timedelta(days=number)


def is_for_all(settings: Settings) -> bool:
    """Whether anyone may read the metrics."""
    return settings.metrics == "open"

"""Settings from the environment, a .env file and mounted secrets; every fault is told at once."""

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from attrs import field, fields, frozen
from dotenv import dotenv_values

from adapters.store.opening import sqlite_path
from adapters.webhook import ShopBackend, webhook_url_problem
from adapters.wechat.merchant import Merchant, MerchantFaults
from domain.errors import InvalidOrder
from domain.fee import FEE_MAX, FEE_MIN, FeeLimits
from entrypoints.faults import Fault, Faults
from entrypoints.readers import (
    OFFICIAL,
    Unfit,
    address,
    networks,
    one_of,
    origins,
    secrets,
    sqlite_or_postgres,
    strong_secrets,
    text,
    whole,
    yes_or_no,
)
from entrypoints.settings_checks import Subject, looks

__all__ = ["OURS", "SETTINGS", "WECHAT", "Fault", "Faults", "Setting", "Settings", "load", "load_one", "read"]

WECHAT = "WECHAT_PAY_"
OURS = "MINITILL_"
OFFICIAL_BACKUP = "https://api2.mch.weixin.qq.com"
SECRET_BYTES_MAX = 65_536  # a settings file longer than that is the wrong file


@frozen
class Setting:
    """One variable: how it is read, what it is when absent, what it means."""

    name: str
    read: Callable[[str], Any]
    default: Any
    meaning: str
    secret: bool = False


SETTINGS = (
    Setting(WECHAT + "MCH_ID", text, "", "merchant number (商户号)"),
    Setting(WECHAT + "APPID", text, "", "the mini-program's appid"),
    Setting(WECHAT + "API_KEY", text, "", "APIv2 key, 32 characters; needed for V2", secret=True),
    Setting(WECHAT + "API_V3_KEY", text, "", "APIv3 key, 32 characters; needed for V3", secret=True),
    Setting(
        WECHAT + "APP_SECRET",
        text,
        "",
        "the mini-program's AppSecret; needed for payers to log in",
        secret=True,
    ),
    Setting(WECHAT + "NOTIFY_URL", text, "", "public address of /api/wechat/pay/notify"),
    Setting(
        WECHAT + "API_VERSION", one_of("v2", "v3"), "", "how new orders are placed; v3 if its key is set"
    ),
    Setting(WECHAT + "SIGN_TYPE", one_of("MD5", "HMAC-SHA256"), "MD5", "signature of V2 orders"),
    Setting(WECHAT + "PUBLIC_KEY_ID", text, "", "id of pub_key.pem, PUB_KEY_ID_…"),
    Setting(WECHAT + "CERTS_DIR", Path, Path("certs"), "folder of the PEM files"),
    Setting(WECHAT + "BASE_URL", address, OFFICIAL, "WeChat Pay's address"),
    Setting(WECHAT + "BACKUP_URL", address, "", "WeChat Pay's second address; the official one has its own"),
    Setting(WECHAT + "TIMEOUT_SECONDS", whole(1, 60), 10, "how long WeChat may take to answer"),
    Setting(OURS + "DATABASE", sqlite_or_postgres, "sqlite:///minitill.db", "where orders are kept"),
    Setting(OURS + "HOST", text, "127.0.0.1", "address to listen on"),
    Setting(OURS + "PORT", whole(0, 65535), 5000, "port to listen on"),
    Setting(OURS + "AUTH_MODE", one_of("token", "open"), "token", "who may call: token asks, open does not"),
    Setting(
        OURS + "TOKEN_SECRET",
        strong_secrets,
        (),
        "signs payers' tokens, 32 characters or more; two, separated by a comma, while rotating",
        secret=True,
    ),
    Setting(OURS + "TOKEN_HOURS", whole(1, 720), 24, "how long a payer stays logged in"),
    Setting(
        OURS + "QUOTE_SECRET",
        strong_secrets,
        (),
        "signs the shop's quotes, 32 characters or more; two, separated by a comma, while rotating",
        secret=True,
    ),
    Setting(
        OURS + "TRUSTED_PROXIES",
        networks,
        (),
        "proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8",
    ),
    Setting(OURS + "TLS_CERT", text, "", "PEM file of a certificate chain, to serve https without a proxy"),
    Setting(OURS + "TLS_KEY", text, "", "PEM file of its key"),
    Setting(OURS + "LOGINS_PER_MINUTE", whole(1, 100_000), 30, "logins that one address may try"),
    Setting(OURS + "CREATES_PER_MINUTE", whole(1, 100_000), 60, "orders that one payer may make"),
    Setting(OURS + "METRICS", one_of("operator", "open", "off"), "operator", "who may read /metrics"),
    Setting(OURS + "FAILURES_DAYS", whole(1, 3650), 30, "how long the evidence of failures is kept"),
    Setting(OURS + "CORS_ORIGINS", origins, (), "web pages that may call, separated by commas"),
    Setting(OURS + "MIN_FEE", whole(FEE_MIN, FEE_MAX), FEE_MIN, "least total_fee in fen"),
    Setting(OURS + "MAX_FEE", whole(FEE_MIN, FEE_MAX), FEE_MAX, "greatest total_fee in fen"),
    Setting(OURS + "ORDER_TTL_MINUTES", whole(2, 10_080), 30, "time to pay an order"),
    Setting(OURS + "LATE_PAYMENT", one_of("keep", "refund"), "keep", "money for an order already given up"),
    Setting(OURS + "WEBHOOK_URL", text, "", "where the shop's backend hears what happened; empty: nowhere"),
    Setting(
        OURS + "WEBHOOK_SECRET",
        secrets,
        (),
        "whsec_…; two, separated by a comma, while rotating",
        secret=True,
    ),
    Setting(
        OURS + "WEBHOOK_ALLOW_PRIVATE",
        yes_or_no,
        default=False,
        meaning="whether the shop may be inside the network",
    ),
    Setting(
        OURS + "LOG_LEVEL", one_of("debug", "info", "warning", "error"), "info", "least level that is logged"
    ),
    Setting(OURS + "LOG_FORMAT", one_of("console", "json"), "console", "how log lines look"),
)


# What Merchant.load reads and judges.
CREDENTIALS = (
    "mch_id",
    "appid",
    "api_key",
    "api_v3_key",
    "notify_url",
    "api_version",
    "sign_type",
    "public_key_id",
    "certs_dir",
)


@frozen(kw_only=True)
class Settings:
    """Everything that can be set; fees in fen, times as their names say."""

    merchant: Merchant
    certs_dir: Path
    base_url: str
    backup_url: str
    timeout_seconds: int
    database: str = field(repr=False)  # an address may carry a password
    host: str
    port: int
    app_secret: str = field(repr=False)
    auth_mode: str
    token_secret: tuple[str, ...] = field(repr=False)
    token_hours: int
    quote_secret: tuple[str, ...] = field(repr=False)
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    tls_cert: str
    tls_key: str
    logins_per_minute: int
    creates_per_minute: int
    metrics: str
    failures_days: int
    cors_origins: tuple[str, ...]
    min_fee: int
    max_fee: int
    order_ttl_minutes: int
    late_payment: str
    webhook_url: str = field(repr=False)  # some shops' addresses carry a key
    webhook_secret: tuple[str, ...] = field(repr=False)
    webhook_allow_private: bool
    log_level: str
    log_format: str
    mounted: tuple[tuple[str, Path], ...] = ()  # secrets read from files: (variable, file)

    @property
    def fee_limits(self) -> FeeLimits:
        """The shop's own limits in fen."""
        return FeeLimits(self.min_fee, self.max_fee)

    @property
    def refund_late(self) -> bool:
        """Whether money that came after an order was given up goes straight back."""
        return self.late_payment == "refund"

    @property
    def platform_folder(self) -> Path:
        """Where downloaded platform certificates are kept."""
        return self.certs_dir / "platform"


def attribute(name: str) -> str:
    """WECHAT_PAY_MCH_ID is mch_id, MINITILL_PORT is port."""
    return name.removeprefix(WECHAT).removeprefix(OURS).lower()


def variables(dotenv: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment over the .env file, ours and WeChat's alone."""
    below = {name: value for name, value in dotenv_values(dotenv).items() if value is not None}
    return {k: v for k, v in {**below, **environ}.items() if k.startswith((WECHAT, OURS))}


def now() -> datetime:
    """The moment, aware UTC."""
    return datetime.now(UTC)


@frozen(kw_only=True)
class Reading:
    """The variables as far as they could be read, and what is wrong with them so far."""

    values: Mapping[str, Any] = field(repr=False)
    faults: tuple[Fault, ...]
    merchant: Merchant | None
    subject: Subject


def read(given: Mapping[str, str], *, clock: Callable[[], datetime] = now) -> Reading:
    """Read every setting and WeChat's key files, and judge them in themselves."""
    faults: list[Fault] = []
    values = {attribute(s.name): _value(s, given, faults) for s in SETTINGS}
    if not values["api_version"]:
        values["api_version"] = "v3" if values["api_v3_key"] else "v2"
    if not values["backup_url"] and values["base_url"] == OFFICIAL:
        values["backup_url"] = OFFICIAL_BACKUP
    if isinstance(values["min_fee"], int) and isinstance(values["max_fee"], int):
        try:
            FeeLimits(values["min_fee"], values["max_fee"])
        except InvalidOrder as error:
            faults.append(Fault(OURS + "MIN_FEE", str(error), "set it to at most MINITILL_MAX_FEE"))
    faults += _webhook(values)
    faults += _access(values)
    values["mounted"] = _mounted(given)
    merchant = _merchant(values, faults)
    subject = _subject(values, clock())
    return Reading(values=values, faults=tuple(faults), merchant=merchant, subject=subject)


def load(given: Mapping[str, str], *, clock: Callable[[], datetime] = now) -> Settings:
    """Read every setting, and look at all it points at. Raises Faults with all that is wrong at once."""
    reading = read(given, clock=clock)
    faults = [*reading.faults, *(fault for look in looks(reading.subject).values() for fault in look.faults)]
    if faults or reading.merchant is None:
        raise Faults(faults)
    names = (one.name for one in fields(Settings) if one.name != "merchant")
    return Settings(merchant=reading.merchant, **{name: reading.values[name] for name in names})


def warnings_of(settings: Settings, *, clock: Callable[[], datetime] = now) -> list[Fault]:
    """What does not stop the start and should be mended all the same."""
    values = {one.name: getattr(settings, one.name) for one in fields(Settings) if one.name != "merchant"}
    merchant = settings.merchant
    values |= {"notify_url": merchant.notify_url, "public_key_id": merchant.public_key_id}
    return [fault for look in looks(_subject(values, clock())).values() for fault in look.warnings]


def _subject(values: Mapping[str, Any], moment: datetime) -> Subject:
    return Subject(
        certs_dir=Path(values["certs_dir"] or "certs"),
        database=sqlite_path(values["database"] or ""),
        now=moment,
        **{
            name: values[name]
            for name in ("tls_cert", "tls_key", "notify_url", "base_url", "public_key_id", "mounted")
        },
    )


def _mounted(given: Mapping[str, str]) -> tuple[tuple[str, Path], ...]:
    """The files that secrets are read from: (variable, file)."""
    names = (setting.name + "_FILE" for setting in SETTINGS if setting.secret)
    return tuple((name, Path(given[name].strip())) for name in names if given.get(name, "").strip())


def load_one(name: str, given: Mapping[str, str]) -> Any:
    """One setting alone, for a command that needs no other. Raises Faults."""
    faults: list[Fault] = []
    value = _value(next(s for s in SETTINGS if s.name == name), given, faults)
    if faults:
        raise Faults(faults)
    return value


def _access(values: Mapping[str, Any]) -> Iterator[Fault]:
    if values["auth_mode"] == "token" and values["token_secret"] == ():
        yield Fault(
            OURS + "TOKEN_SECRET",
            "is not set, and AUTH_MODE=token signs payers' tokens with it",
            "make one with: openssl rand -base64 32",
        )
    for one, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if values[one] and not values[other]:
            name = OURS + other.upper()
            yield Fault(name, f"is not set, and {OURS}{one.upper()} is", "set both or neither")


def _webhook(values: Mapping[str, Any]) -> Iterator[Fault]:
    if not values["webhook_url"]:
        return
    allowed = values["webhook_allow_private"] is True
    problem = webhook_url_problem(values["webhook_url"], allow_private=allowed)
    if problem:
        remedy = "use the shop's https address; inside the network also MINITILL_WEBHOOK_ALLOW_PRIVATE=true"
        yield Fault(OURS + "WEBHOOK_URL", problem, remedy)
        return
    try:
        ShopBackend(url=values["webhook_url"], secrets=values["webhook_secret"] or (), allow_private=allowed)
    except ValueError as error:
        remedy = "make one with: echo whsec_$(openssl rand -base64 32)"
        yield Fault(OURS + "WEBHOOK_SECRET", str(error), remedy)


def _merchant(values: Mapping[str, Any], faults: list[Fault]) -> Merchant | None:
    known = {fault.variable for fault in faults}
    try:
        return Merchant.load(**{name: values[name] for name in CREDENTIALS})
    except MerchantFaults as merchant_faults:
        for fault in merchant_faults.faults:
            if fault.variable not in known:
                faults.append(Fault(fault.variable, fault.problem, fault.remedy))
        return None


def unknown(given: Mapping[str, str]) -> list[Fault]:
    """Variables with our prefixes that mean nothing: most likely misspelt."""
    known = {s.name for s in SETTINGS} | {s.name + "_FILE" for s in SETTINGS}
    found = []
    for name in sorted(set(given) - known):
        near = difflib.get_close_matches(name, known, 1)
        remedy = f"did you mean {near[0]}?" if near else "remove it"
        found.append(Fault(name, "is no setting of minitill", remedy))
    return found


def _value(setting: Setting, given: Mapping[str, str], faults: list[Fault]) -> Any:
    try:
        raw = _raw(setting.name, given)
        return setting.default if raw == "" else setting.read(raw)
    except Unfit as unfit:
        faults.append(Fault(setting.name, unfit.problem, unfit.remedy))
        return ""
    except ValueError:  # a bracket that never closes, a number without end, bytes that are no text
        faults.append(Fault(setting.name, "can't be read", "look for a stray or missing character"))
        return ""


def _raw(name: str, given: Mapping[str, str]) -> str:
    file = given.get(name + "_FILE", "").strip()
    if not file:
        return given.get(name, "").strip()
    if given.get(name, "").strip():
        raise Unfit(f"is set, and {name}_FILE too", "keep one of the two")
    try:
        content = Path(file).read_bytes()
        if len(content) > SECRET_BYTES_MAX:
            raise Unfit(f"{name}_FILE names a file too long to be a setting", "check the path")
        return content.decode().strip()
    except OSError as error:
        raise Unfit(
            f"{name}_FILE can't be read ({error.strerror})", "check the path and its rights"
        ) from None
    except UnicodeDecodeError:
        raise Unfit(f"{name}_FILE is no text", "check the path") from None

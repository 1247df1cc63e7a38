"""What the doctor asks WeChat: real calls over the real line, none of which moves money or makes an order."""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from attrs import evolve, field, frozen

from adapters.wechat import doctor_reach
from adapters.wechat.certificates import TARGET as CERTIFICATES
from adapters.wechat.certificates import Certificates
from adapters.wechat.client import SKEW_SECONDS_MAX, Client, RawAnswer
from adapters.wechat.errors import Call, canonical, explain_request_id, one_line
from adapters.wechat.finding import Finding, Probe, failed, fine, skipped, warning
from adapters.wechat.merchant import Merchant
from adapters.wechat.miniprogram import MiniProgram
from adapters.wechat.v2 import V2
from adapters.wechat.v3 import V3
from adapters.wechat.v3_wire import WINDOW_SECONDS, KeyRing, Rejected
from adapters.wechat.v3_words import refusal_of
from application.login import LoginCodeInvalid, LoginCodeUsed, LoginNoAnswer, LoginRefused, LoginTooOften
from application.ports import Clock, Meaning, Refused, Unknown
from domain.order import Order, Placement
from domain.trade import Trade

ECHO = "/v3/security/echo"
NO_CODE = "minitill-doctor"  # no code of wx.login
NTP = "let NTP set this machine's clock (run NTP); from 300 s on WeChat refuses every V3 call"

PLATFORM = "in the merchant platform (商户平台)"
NEW_KEYS = (
    f"check {PLATFORM}, 账户中心 → API安全, that apiclient_key.pem and apiclient_cert.pem"
    " are WECHAT_PAY_MCH_ID's present ones"
)
BIND = f"bind WECHAT_PAY_APPID {PLATFORM}, 产品中心 → AppID账号管理"
REMEDIES: Mapping[str, str] = {  # by canonical code
    "MCHNOTEXISTS": "correct WECHAT_PAY_MCH_ID",
    "MCHIDNOTEXIST": "correct WECHAT_PAY_MCH_ID",
    "APPIDNOTEXIST": "correct WECHAT_PAY_APPID",
    "APPIDMCHIDNOTMATCH": BIND,
    "NOAUTH": f"apply for the product JSAPI支付 {PLATFORM}, 产品中心",
    "FREQUENCYLIMITED": "wait a minute and run the doctor again",
    "RATELIMITEXCEEDED": "wait a minute and run the doctor again",
    "SYSTEMERROR": "WeChat is busy: run the doctor again",
    "SERVICEUNAVAILABLE": "WeChat is down: run the doctor again",
    "INVALIDREQUEST": "WeChat's text says which rule; the merchant may be restricted",
    "PARAMERROR": "WeChat's text names the parameter; check WECHAT_PAY_MCH_ID and WECHAT_PAY_APPID",
}
V2_REMEDIES = {
    **REMEDIES,
    "SIGNERROR": f"set the APIv2 key {PLATFORM}, 账户中心 → API安全, and the same in WECHAT_PAY_API_KEY",
}
V3_REMEDIES = {**REMEDIES, "SIGNERROR": f"{NEW_KEYS}; then the clock"}
V3_KEY = f"set the APIv3 key {PLATFORM}, 账户中心 → API安全, and the same in WECHAT_PAY_API_V3_KEY"
PUBLIC_KEY = (
    f"download the WeChat Pay public key (微信支付公钥) {PLATFORM} as pub_key.pem, and copy its id beside it"
    " to WECHAT_PAY_PUBLIC_KEY_ID"
)
V2_SIGN_TEXT = "签名错误"  # V2 refuses a wrong sign without a code (v2.md section 5)

Nonce = Callable[[], str]


@frozen(kw_only=True)
class Bench:
    """Our end of the line, as the service has it. What it downloads goes to `folder`, to be thrown away."""

    merchant: Merchant
    client: Client
    clock: Clock
    nonce: Nonce
    folder: Path
    base_url: str
    backup_url: str
    login: MiniProgram | None
    is_public: Callable[[str], bool]  # whether an IP address is on the open network
    resolve: doctor_reach.Resolve = doctor_reach.resolve
    certificates: Certificates = field(init=False)  # with the public key, if there is one
    bare: Certificates = field(init=False)  # names no key to WeChat and holds none at first

    @certificates.default
    def _with_public_key(self) -> Certificates:
        return self._certificates(self.merchant, "all")

    @bare.default
    def _without_public_key(self) -> Certificates:
        return self._certificates(evolve(self.merchant, public_key=None, public_key_id=""), "bare")

    def _certificates(self, merchant: Merchant, folder: str) -> Certificates:
        return Certificates(
            merchant=merchant,
            client=self.client,
            folder=self.folder / folder,
            clock=self.clock,
            nonce=self.nonce,
        )


# -- the checks ----------------------------------------------------------------------------------


async def base_host(bench: Bench) -> Finding:
    """Name, connection and TLS of WeChat's first address."""
    return await doctor_reach.reach(bench.base_url)


async def backup_host(bench: Bench) -> Finding:
    """The same for the second one (v3.md section 2)."""
    if not bench.backup_url:
        return skipped("no backup address is set")
    return await doctor_reach.reach(bench.backup_url)


async def clock(bench: Bench) -> Finding:
    """Our clock against both of WeChat's: the front end's Date, and the stamp of a signed answer (R5)."""
    skews = {}
    headers = {"Accept": "application/json"}
    if await _carries("Date", bench, "/", headers):
        skews["Date"] = bench.client.skew_seconds
    if bench.merchant.speaks_v3:
        headers = bench.bare.request_headers("GET", CERTIFICATES, b"")
        if await _carries("Wechatpay-Timestamp", bench, CERTIFICATES, headers):
            skews["Wechatpay-Timestamp"] = bench.client.skew_seconds
    if not skews:
        return warning("no answer of WeChat's told the time", "run the doctor again")
    told = ", ".join(f"{skew:+.0f} s by {name}" for name, skew in skews.items())
    if max(map(abs, skews.values())) >= SKEW_SECONDS_MAX:
        return failed(f"this machine's clock is off: {told}", NTP)
    return fine(told)


async def v2_query(bench: Bench) -> Finding:
    """An order nobody made, asked for by V2: proves mch_id, appid, their binding and the APIv2 key."""
    if not bench.merchant.speaks_v2:
        return skipped("V2 is not set up: WECHAT_PAY_API_KEY is empty")
    v2 = V2(merchant=bench.merchant, client=bench.client, clock=bench.clock, nonce=bench.nonce)
    order = _nobodys_order(bench, v2.placement(""))
    return _judged(await v2.query(order), V2_REMEDIES, "mch_id, appid, their binding and the APIv2 key")


async def v3_query(bench: Bench) -> Finding:
    """The same by V3: proves mch_id, serial and private key, whatever key of WeChat's we hold."""
    if not bench.merchant.speaks_v3:
        return skipped("V3 is not set up")
    v3 = _v3(bench)
    order = _nobodys_order(bench, v3.placement(""))
    answer = await v3.query(order)
    by_the_clock = abs(bench.client.skew_seconds) >= WINDOW_SECONDS
    remedies = {**V3_REMEDIES, "SIGNERROR": NTP} if by_the_clock else V3_REMEDIES
    return _judged(answer, remedies, "mch_id, certificate serial and private key")


async def binding(bench: Bench) -> Finding:
    """Whether appid and mch_id belong together shows in V2's query; V3's names no appid."""
    if bench.merchant.speaks_v2:
        return skipped("the V2 query shows it")
    return skipped("V3 shows it with the first order", BIND)


async def platform_certificates(bench: Bench) -> Finding:
    """Downloaded, opened with the APIv3 key, verified (v3.md section 5)."""
    answer = await bench.bare.refresh()
    if isinstance(answer, KeyRing):
        last = max((key.expires_at for key in answer.keys.values() if key.expires_at), default=None)
        until = f", the last ends on {last:%Y-%m-%d}" if last else ""
        return fine(f"{len(answer.keys)} downloaded and verified{until}")
    if isinstance(answer, Refused):
        if canonical(answer.err_code) == canonical("RESOURCE_NOT_EXISTS"):
            if bench.merchant.public_key is not None:
                return skipped("WeChat has none for this merchant, which has the public key")
            return failed(_told(answer), PUBLIC_KEY)
    elif "APIv3 key?" in answer.why:
        return failed("the certificates can't be opened: another APIv3 key sealed them", V3_KEY)
    return failed(_told(answer), V3_REMEDIES.get(canonical(answer.err_code), "run the doctor again"))


async def public_key(bench: Bench) -> Finding:
    """An answer signed by the WeChat Pay public key, because we asked for that one, verifies (R52)."""
    merchant = bench.merchant
    if merchant.public_key is None:
        return skipped("WECHAT_PAY_PUBLIC_KEY_ID is not set")
    order = _nobodys_order(bench, _v3(bench).placement(""))
    target = f"/v3/pay/transactions/out-trade-no/{order.out_trade_no}?mchid={merchant.mch_id}"
    headers = bench.certificates.request_headers("GET", target, b"")
    headers["Wechatpay-Serial"] = merchant.public_key_id
    answer = await bench.client.send("GET", target, headers=headers)
    if not isinstance(answer, RawAnswer):
        return failed(_told(answer), "run the doctor again")
    try:
        serial = await bench.certificates.check(answer.headers, answer.body)
    except Rejected as rejected:
        return failed(f"WeChat's answer does not verify: {rejected.reason}", PUBLIC_KEY)
    if serial != merchant.public_key_id:
        return failed("WeChat does not know this WECHAT_PAY_PUBLIC_KEY_ID", PUBLIC_KEY)
    return fine("it verifies WeChat's answer")


async def echo(bench: Bench) -> Finding:
    """Both signatures in one call, where WeChat offers it (v3.md section 2)."""
    body = json.dumps({"message": bench.nonce()}).encode()
    headers = bench.certificates.request_headers("POST", ECHO, body)
    answer = await bench.client.send("POST", ECHO, body, headers)
    if not isinstance(answer, RawAnswer):
        return failed(_told(answer), "run the doctor again")
    if answer.status in {404, 405}:
        return skipped("WeChat does not offer it here")
    if answer.status != 200:
        refusal = refusal_of(Call.QUERY, answer.status, answer.body, answer.request_id)
        return _judged(refusal, V3_REMEDIES, "")
    try:
        await bench.certificates.check(answer.headers, answer.body)
    except Rejected as rejected:
        remedy = "a proxy may change what WeChat answers: let nothing stand between"
        return failed(f"WeChat's answer does not verify: {rejected.reason}", remedy)
    return fine("our signature and WeChat's both hold")


async def notify_host(bench: Bench) -> Finding:
    """Where WeChat calls us is on the open network (R21)."""
    if doctor_reach.is_loopback(bench.base_url):
        return skipped("a simulator on this machine reaches any address")
    return await doctor_reach.public(bench.merchant.notify_url, bench.resolve, bench.is_public)


async def notify_answer(bench: Bench) -> Finding:
    """Behind notify_url a minitill answers, and refuses what WeChat did not sign (R26)."""
    return await doctor_reach.ask_notify(
        bench.merchant.notify_url, bench.clock() if bench.merchant.speaks_v3 else None
    )


async def app_secret(bench: Bench) -> Finding:
    """code2Session refuses the code and not the AppSecret (miniprogram.md section 1)."""
    if bench.login is None:
        return skipped("WECHAT_PAY_APP_SECRET is not set: payers can't log in")
    try:
        await bench.login.openid(NO_CODE)
    except (LoginCodeInvalid, LoginCodeUsed):
        return fine("WeChat refused an invalid code, and took appid and AppSecret")
    except LoginTooOften as refusal:
        return warning(one_line(str(refusal)), "wait a minute and run the doctor again")
    except LoginNoAnswer as refusal:
        return failed(one_line(str(refusal)), "let https out to api.weixin.qq.com, and run the doctor again")
    except LoginRefused as refusal:
        remedy = (
            "copy WECHAT_PAY_APPID and WECHAT_PAY_APP_SECRET from the mini-program's console (小程序后台)"
        )
        return failed(one_line(str(refusal)), remedy)
    return failed("WeChat took a code that is none", "check WECHAT_PAY_BASE_URL")


BASE, BACKUP, V3_ASKED = "WeChat Pay's address", "WeChat Pay's backup address", "V3 signed query"
WHOLE = "WeChat Pay public key"
LISTED = "platform certificates"
REACHED = ((BASE, BACKUP),)

PROBES: Sequence[Probe[Bench]] = (
    Probe(BASE, base_host),
    Probe(BACKUP, backup_host),
    Probe("clock by WeChat", clock, REACHED),
    Probe("V2 signed query", v2_query, REACHED),
    Probe(V3_ASKED, v3_query, REACHED),
    Probe("appid and mch_id", binding),
    Probe(LISTED, platform_certificates, (*REACHED, (V3_ASKED,))),
    Probe(WHOLE, public_key, (*REACHED, (V3_ASKED,))),
    Probe("security echo", echo, (*REACHED, (V3_ASKED,)), unless=(LISTED, WHOLE)),
    Probe("notify_url's host", notify_host),
    Probe("notify_url's answer", notify_answer, unless=("notify_url's host",)),
    Probe("AppSecret", app_secret),
)


# -- inside --------------------------------------------------------------------------------------


async def _carries(header: str, bench: Bench, target: str, headers: Mapping[str, str]) -> bool:
    """Whether an answer came with that header; the client has then measured our skew by it."""
    answer = await bench.client.send("GET", target, headers=headers)
    return isinstance(answer, RawAnswer) and header in answer.headers


def _v3(bench: Bench) -> V3:
    return V3(
        merchant=bench.bare.merchant,
        client=bench.client,
        certificates=bench.bare,
        clock=bench.clock,
        nonce=bench.nonce,
    )


def _nobodys_order(bench: Bench, placement: Placement) -> Order:
    """An order with a number that nobody ever gave; it is only asked for."""
    now = bench.clock()
    return Order(
        out_trade_no=f"DOCTOR{secrets.token_hex(13)}",
        openid="doctor",
        total_fee=1,
        body="doctor",
        placement=placement,
        created_at=now,
        expires_at=now + timedelta(minutes=30),
    )


def _judged(answer: Trade | Refused | Unknown, remedies: Mapping[str, str], proven: str) -> Finding:
    """An order nobody made must not exist; any other answer has its cause and its remedy."""
    if isinstance(answer, Trade):
        return failed("WeChat knows an order that nobody made", "check WECHAT_PAY_BASE_URL")
    if isinstance(answer, Refused) and answer.meaning is Meaning.NO_SUCH_ORDER:
        return fine(f"{answer.err_code}, as it should: {proven} are right")
    code = canonical(answer.err_code)
    if V2_SIGN_TEXT in answer.description or "sign is wrong" in getattr(answer, "why", ""):
        code = "SIGNERROR"
    explained = getattr(answer, "explanation", "")
    return failed(_told(answer), remedies.get(code) or explained or "run the doctor again")


def _told(answer: Refused | Unknown) -> str:
    """WeChat's words, with the Request-ID's meaning (R48)."""
    number = explain_request_id(answer.request_id)
    return one_line(str(answer)) + (f" (Request-ID suffix {number})" if number else "")

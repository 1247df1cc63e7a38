"""The keys of V3, ours and WeChat's: whose signature goes out, whose comes in."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from attrs import define, field

from adapters.wechat import v3_wire
from adapters.wechat.client import Client, RawAnswer
from adapters.wechat.errors import Call, canonical, report
from adapters.wechat.merchant import Merchant
from adapters.wechat.v3_wire import PUBLIC_KEY_PREFIX, KeyRing, PlatformKey, Rejected
from adapters.wechat.v3_words import refusal_of
from adapters.wechat.watch import Watch
from application.ports import Clock, Refused, Unknown

log = logging.getLogger(__name__)

TARGET = "/v3/certificates"
REFRESH_EVERY = timedelta(hours=12)  # new certificates are listed 24 h before use (v3.md section 5)
ASK_AGAIN = timedelta(hours=1)  # at most once an hour for serials nobody knows …
ASK_AGAIN_AFTER_FAILURE = timedelta(minutes=1)  # … unless the last download did not work
UNKNOWN_SERIAL = "unknown"  # whatever serial a stranger names: it would fill every list it is put on

Nonce = Callable[[], str]  # 32 letters and digits that nobody can guess


@define
class Certificates:
    """Signs V3's requests, verifies its answers, and keeps the ring of WeChat's keys up to date (R52).

    `folder` holds the downloaded certificates, one `<serial>.pem` each, so that a
    restart needs no network. Files that are no certificates are skipped.
    """

    merchant: Merchant
    client: Client
    folder: Path
    clock: Clock
    nonce: Nonce
    watch: Watch = field(factory=Watch)
    ring: KeyRing = field(init=False)
    refreshed_at: datetime | None = field(default=None, init=False)
    _asked_at: datetime | None = field(default=None, init=False)
    _flight: asyncio.Lock = field(factory=asyncio.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self.ring = KeyRing().with_keys(*_stored(self.folder))
        if self.merchant.public_key is not None:
            serial, public_key = self.merchant.public_key_id, self.merchant.public_key
            self.ring = self.ring.with_keys(PlatformKey(serial=serial, public_key=public_key))

    def request_headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """The headers of a request over exactly these bytes (v3.md sections 2 and 3, R3, R4).

        Each call makes a new nonce: a repeat is signed again. Raise MerchantFault without a private key.
        """
        now = self.clock()
        headers = {
            "Accept": "application/json",
            "Authorization": v3_wire.authorization(
                self.merchant.signing_key,
                self.merchant.mch_id,
                self.merchant.serial,
                method,
                target,
                body,
                str(int(now.timestamp())),
                self.nonce(),
            ),
        }
        if body:
            headers["Content-Type"] = "application/json"
        asked_for = self.ring.newest(now)
        if asked_for is not None:
            headers["Wechatpay-Serial"] = asked_for.serial
        return headers

    async def check(self, headers: Mapping[str, str], body: bytes) -> str:
        """Verify an answer or a notification and return the serial that signed it; raise Rejected (R23).

        An unknown certificate serial is worth one download, at a bounded pace.
        """
        try:
            serial = await self._check(headers, body)
        except Rejected as rejected:
            self.watch.observer.verified("v3", rejected.reason, self.serial_named(headers))
            raise
        self.watch.observer.verified("v3", "ok", serial)
        return serial

    def serial_named(self, headers: Mapping[str, str]) -> str:
        """The serial that a message names, if it is one of a key we hold; else "unknown", or '' for none."""
        lowered = {name.lower(): value for name, value in headers.items()}
        serial = lowered.get("wechatpay-serial", "")
        key = self.ring.keys.get(v3_wire.canonical(serial))
        return key.serial if key else UNKNOWN_SERIAL if serial else ""

    async def _check(self, headers: Mapping[str, str], body: bytes) -> str:
        try:
            return v3_wire.check(headers, body, self.ring, self.clock())
        except Rejected as rejected:
            if rejected.reason != "serial":
                raise
        lowered = {name.lower(): value for name, value in headers.items()}
        await self._renew(lowered["wechatpay-serial"])
        return v3_wire.check(headers, body, self.ring, self.clock())

    def refresh_due(self, now: datetime) -> bool:
        """Whether the ring was last brought up to date twelve hours ago, or never."""
        if not self.merchant.speaks_v3:
            return False
        return self.refreshed_at is None or now >= self.refreshed_at + REFRESH_EVERY

    async def refresh(self) -> KeyRing | Refused | Unknown:
        """Download the certificates; on a failure the ring stays as it is.

        A merchant with a WeChat Pay public key may have none: that is no failure.
        """
        async with self._flight:
            return await self._refresh()

    async def _refresh(self) -> KeyRing | Refused | Unknown:
        self._asked_at = self.clock()
        answer = await self.watch.over(Call.CERTIFICATES, "-", self._listed())
        if isinstance(answer, Refused | Unknown):
            return report(Call.CERTIFICATES, "-", answer)
        now = self.clock()
        held = (key for key in self.ring.keys.values() if not key.expired(now))
        self.ring = KeyRing().with_keys(*held).with_keys(*answer)
        self.refreshed_at = now
        await asyncio.to_thread(_store, self.folder, answer)
        log.info("platform certificates: %d listed, %d keys held", len(answer), len(self.ring.keys))
        return self.ring

    async def _renew(self, serial: str) -> None:
        """One download for a certificate serial that nobody knows; who comes meanwhile waits for it."""
        if serial.startswith(PUBLIC_KEY_PREFIX) or not self.merchant.speaks_v3:
            return
        async with self._flight:
            if self._may_ask(self.clock()):
                await self._refresh()

    def _may_ask(self, now: datetime) -> bool:
        if self._asked_at is None:
            return True
        worked = self.refreshed_at is not None and self.refreshed_at >= self._asked_at
        pause = ASK_AGAIN if worked else ASK_AGAIN_AFTER_FAILURE
        return not self._asked_at <= now < self._asked_at + pause

    async def _listed(self) -> Sequence[PlatformKey] | Refused | Unknown:
        answer = await self.client.repeat(self._download)
        if isinstance(answer, Refused) and _none_there(answer) and self.merchant.public_key is not None:
            return []
        return answer

    async def _download(self) -> Sequence[PlatformKey] | Refused | Unknown:
        headers = self.request_headers("GET", TARGET, b"")
        # We ask for no key by name: WeChat refuses one that it has given up, and here we may hold no other.
        headers.pop("Wechatpay-Serial", None)
        answer = await self.client.send("GET", TARGET, headers=headers)
        if not isinstance(answer, RawAnswer):
            return answer
        if answer.status != 200:
            return refusal_of(Call.CERTIFICATES, answer.status, answer.body, answer.request_id)
        try:
            listed = v3_wire.read_certificates(answer.body, self.merchant.v3_key)
            # A key we hold is checked with what we hold. One we don't hold yet was sealed under the
            # APIv3 key: WeChat made it, so it may vouch for this answer (v3.md section 5).
            ring = KeyRing().with_keys(*listed).with_keys(*self.ring.keys.values())
            v3_wire.check(answer.headers, answer.body, ring, self.clock())
        except Rejected as rejected:
            hint = " (APIv3 key?)" if rejected.reason == "decrypt" else ""
            return Unknown(why=f"not verified: {rejected.reason}{hint}", request_id=answer.request_id)
        return listed


def _none_there(answer: Refused) -> bool:
    return canonical(answer.err_code) == canonical("RESOURCE_NOT_EXISTS")


def _stored(folder: Path) -> list[PlatformKey]:
    """The certificates of earlier downloads."""
    keys = []
    for path in sorted(folder.glob("*.pem")):
        try:
            keys.append(v3_wire.load_certificate(path.read_bytes()))
        except (OSError, ValueError) as error:
            log.warning("%s is skipped: %s", path, error)
    return keys


def _store(folder: Path, keys: Sequence[PlatformKey]) -> None:
    """Write each certificate whole or not at all; a folder that cannot be written costs a download."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for key in keys:
            path = folder / f"{key.serial}.pem"
            draft = path.with_suffix(".part")
            draft.write_bytes(key.pem)
            draft.replace(path)
    except OSError as error:
        log.warning("platform certificates are not kept in %s: %s", folder, error.strerror)

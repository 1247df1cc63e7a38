"""The notifier: tells the merchant, and tells again on WeChat's schedule until it is heard."""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import aiohttp
from attrs import Factory, define, field, frozen

from adapters.wechat import v2_wire
from adapters.wechat.simulator.clock import Agenda, SimClock
from adapters.wechat.simulator.faults import NONE, Fault, Faults
from adapters.wechat.simulator.letters import News, Scribe
from adapters.wechat.simulator.orders import Form

# After the first attempt, made at once: 15 more, the last 24 h 4 min after it (v2.md section 11, R29).
SCHEDULE_SECONDS = (15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10800, 10800, 10800, 21600, 21600)
ANSWER_SECONDS = 5.0
ANSWER_BYTES_MAX = 4096
HELD_FOR = timedelta(minutes=1)  # a reordered notification goes out then even if nothing overtook it
KEPT_MAX = 10_000
UNTRUE = ("corrupt", "probe", "forged")  # whatever is answered to these, the true one is still to come


@frozen(kw_only=True)
class Attempt:
    """One try to tell: when it was due on WeChat's calendar, what went wrong, what came back."""

    number: int  # 0 is the first, 1 to 15 the repeats
    due_at: datetime
    fault: str
    status: int  # 0 when nothing came back
    answer: str
    accepted: bool


@define(eq=False)
class Notification:
    """Some news, and every attempt to tell it."""

    news: News
    attempts: list[Attempt] = Factory(list)
    heard: bool = False
    given_up: bool = False

    def as_json(self) -> dict[str, Any]:
        news = self.news
        return {
            "id": news.id,
            "event_type": news.event_type,
            "out_trade_no": news.out_trade_no,
            "out_refund_no": news.out_refund_no,
            "version": str(news.form),
            "notify_url": news.url,
            "heard": self.heard,
            "given_up": self.given_up,
            "attempts": [
                {
                    "number": attempt.number,
                    "due_at": attempt.due_at.isoformat(),
                    "fault": attempt.fault,
                    "status": attempt.status,
                    "answer": attempt.answer,
                    "accepted": attempt.accepted,
                }
                for attempt in self.attempts
            ],
        }


@define(eq=False)
class Notifier:
    """Posts letters; what is not heard goes back on the agenda."""

    clock: SimClock
    agenda: Agenda
    faults: Faults
    scribe: Scribe
    chance: random.Random = field(repr=False)
    answer_seconds: float = ANSWER_SECONDS
    sent: deque[Notification] = Factory(lambda: deque(maxlen=KEPT_MAX))
    _held: list[Callable[[], Awaitable[None]]] = Factory(list)
    _session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()

    def clear(self) -> None:
        self.sent.clear()
        self._held.clear()

    def new_id(self) -> str:
        """An id in the shape of WeChat's: 36 characters."""
        text = f"{self.chance.getrandbits(128):032x}"
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    def tell(self, news: News) -> Notification:
        """Start telling, at once and then on schedule."""
        notification = Notification(news)
        self.sent.append(notification)
        self._plan(notification, 0, news.created_at)
        return notification

    def again(self, notification: Notification) -> None:
        """One more attempt out of turn, as when several of WeChat's senders tell the same (R25)."""
        self.agenda.at(self.clock.now(), lambda: self._post(notification, 0, self.clock.now(), NONE))

    def _plan(self, notification: Notification, number: int, due_at: datetime) -> None:
        async def attempt() -> None:
            fault = self.faults.notification()
            later = timedelta(seconds=fault.seconds)
            if fault.kind == "delay":
                self.agenda.at(due_at + later, lambda: self._attempt(notification, number, due_at, fault))
            elif fault.kind == "reorder":
                self._hold(lambda: self._attempt(notification, number, due_at, fault))
            else:
                await self._attempt(notification, number, due_at, fault)
                self._release()

        self.agenda.at(due_at, attempt)

    async def _attempt(self, notification: Notification, number: int, due_at: datetime, fault: Fault) -> None:
        if fault.kind == "drop":
            lost = Attempt(
                number=number, due_at=due_at, fault="drop", status=0, answer="lost", accepted=False
            )
            notification.attempts.append(lost)
        elif fault.kind == "duplicate":
            twice = (self._post(notification, number, due_at, fault) for _ in range(2))
            await asyncio.gather(*twice)
        else:
            await self._post(notification, number, due_at, fault)
        if notification.heard:
            return
        if number == len(SCHEDULE_SECONDS):
            notification.given_up = True
            return
        self._plan(notification, number + 1, due_at + timedelta(seconds=SCHEDULE_SECONDS[number]))

    async def _post(self, notification: Notification, number: int, due_at: datetime, fault: Fault) -> None:
        news = notification.news
        letter = self.scribe.write(news, fault, self.clock.wire_now())
        status, answer = await self._answer_to(news.url, dict(letter.headers), letter.body)
        accepted = _is_taken(news.form, status, answer)
        attempt = Attempt(
            number=number,
            due_at=due_at,
            fault=fault.kind,
            status=status,
            answer=answer.decode(errors="replace")[:500],
            accepted=accepted,
        )
        notification.attempts.append(attempt)
        if accepted and fault.kind not in UNTRUE:
            notification.heard = True

    async def _answer_to(self, url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Status and body; (0, why) when nothing came back in five seconds. Redirects are not followed."""
        if self._session is None:
            raise RuntimeError("the notifier has not been started")
        headers["User-Agent"] = "Mozilla/4.0"
        try:
            async with self._session.post(
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self.answer_seconds),
            ) as response:
                return response.status, await response.content.read(ANSWER_BYTES_MAX)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 0, type(error).__name__.encode()

    def _hold(self, send: Callable[[], Awaitable[None]]) -> None:
        self._held.append(send)

        async def give_up_waiting() -> None:
            if send in self._held:
                self._held.remove(send)
                await send()

        self.agenda.at(self.clock.now() + HELD_FOR, give_up_waiting)

    def _release(self) -> None:
        held, self._held = self._held, []
        for send in held:
            self.agenda.at(self.clock.now(), send)


def _is_taken(form: Form, status: int, answer: bytes) -> bool:
    """V3: 200 or 204. V2: 200 with return_code SUCCESS (R33)."""
    if form is Form.V3:
        return status in {200, 204}
    try:
        return status == 200 and v2_wire.read(answer).get("return_code") == "SUCCESS"
    except v2_wire.MalformedXml:
        return False

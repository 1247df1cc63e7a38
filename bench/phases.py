"""The phases: what is sent, how fast the answers came, what they cost."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import quantiles

import aiohttp
from attrs import Factory, define, frozen

from bench.notifications import notifications
from bench.processes import Service

API = "/api/wechat/pay"
OPENID = "oUpF8uMEb4qRXf22%06d"
PAYERS = 50  # so that lists have pages to fill


@frozen
class Sent:
    """One request, ready to go."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = Factory(dict)


@define
class Phase:
    """What was measured of one kind of request."""

    name: str
    seconds: float
    cpu_seconds: float
    waits: list[float]
    errors: int

    def figures(self) -> dict[str, float | int | str]:
        """Rounded, as the table shows them."""
        cuts = quantiles(self.waits, n=100)
        return {
            "phase": self.name,
            "req/s": round(len(self.waits) / self.seconds),
            "p50 ms": round(cuts[49] * 1000, 1),
            "p99 ms": round(cuts[98] * 1000, 1),
            "cpu us": round(self.cpu_seconds / len(self.waits) * 1_000_000),
            "errors": self.errors,
        }


async def run_phases(till: Service, requests: int, concurrency: int) -> list[Phase]:
    """Create, notify, notify again, query, list, stats; in this order, on one growing database."""
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(till.url, connector=connector) as session:
        bench = Bench(till, session, concurrency)
        creates = [create(n) for n in range(requests)]
        await bench.run("warm-up", creates[: min(50, requests)])
        made = await bench.run("create", creates)
        numbers = [answer["data"]["out_trade_no"] for answer in bench.answers]
        letters = notifications(till.credentials, till.version, numbers, datetime.now(UTC))
        notices = [Sent("POST", f"{API}/notify", letter.body, letter.headers) for letter in letters]
        told = await bench.run("notify", notices, login=False)
        again = await bench.run("notify again", notices, login=False)
        queried = await bench.run("query", [Sent("GET", f"{API}/query/{number}") for number in numbers])
        lists = [Sent("GET", f"{API}/orders/{OPENID % (n % PAYERS)}") for n in range(requests)]
        listed = await bench.run("list, 20 orders", lists)
        counted = await bench.run("stats", [Sent("GET", f"{API}/stats")] * requests)
        return [made, told, again, queried, listed, counted]


def create(n: int) -> Sent:
    """The n-th order."""
    body = f'{{"openid":"{OPENID % (n % PAYERS)}","total_fee":100,"body":"图片增强服务","attach":"user {n}"}}'
    return Sent("POST", f"{API}/create", body.encode(), {"Content-Type": "application/json"})


@define
class Bench:
    """Sends a phase's requests over a bounded number of connections and takes the time."""

    till: Service
    session: aiohttp.ClientSession
    concurrency: int
    answers: list[dict[str, dict[str, str]]] = Factory(list)

    async def run(self, name: str, requests: Sequence[Sent], *, login: bool = True) -> Phase:
        """One phase; the JSON answers of a create stay in `answers`."""
        self.answers = []
        waits, errors, left = list[float](), [0], iter(requests)
        cpu, begun = self.till.cpu_seconds(), time.perf_counter()

        async def sender() -> None:
            for sent in left:
                headers = {**sent.headers, **(self.till.headers if login else {})}
                started = time.perf_counter()
                async with self.session.request(
                    sent.method, sent.path, data=sent.body, headers=headers
                ) as answer:
                    body = await answer.read()
                waits.append(time.perf_counter() - started)
                if answer.status >= 300:
                    errors[0] += 1
                elif name == "create":
                    self.answers.append(await answer.json())
                del body

        await asyncio.gather(*(sender() for _ in range(self.concurrency)))
        seconds = time.perf_counter() - begun
        return Phase(name, seconds, self.till.cpu_seconds() - cpu, waits, errors[0])

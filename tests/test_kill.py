"""Real processes under load, killed at any moment, over and over: in the end both books agree."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from random import Random

import aiohttp
import pytest
from aiohttp import web
from attrs import Factory, define, field

from adapters.wechat.simulator.codes import Refusal
from tests.simulated_wire import WireStory
from tests.simulation import START

pytestmark = pytest.mark.slow

KILLS = 4
CALLERS = 6
CALLS_BETWEEN = (15, 70)  # answered calls before the next kill
READY = "minitill serves at"


@define
class Wish:
    """A call with an Idempotency-Key that a caller repeats until it is answered, and ever after."""

    path: str
    key: str
    body: dict
    answer: tuple | None = None


@define(eq=False)
class KillStory(WireStory):
    """The load, the kills, then the days after them with a process that lives."""

    wishes: list[Wish] = Factory(list)
    paid: list[str] = Factory(list)
    answered: int = 0
    kill_at: int = 0
    process: asyncio.subprocess.Process = field(default=None, init=False)
    hook: str = ""
    key: str = field(default="", init=False)

    def wechat_time(self):
        """The machine's clock while processes live, moved ahead for the days after them."""
        return datetime.now(UTC) + (self.now - START)

    def clock(self):
        """The same: the machines have one time."""
        return self.wechat_time()

    def variables(self):
        """The service's environment, with a shop that really listens."""
        more = {
            "MINITILL_WEBHOOK_URL": self.hook,
            "MINITILL_WEBHOOK_ALLOW_PRIVATE": "true",
            "MINITILL_CREATES_PER_MINUTE": "100000",
        }
        return super().variables() | more

    async def start(self, fuse=None):
        """First the bad days; then a process in peace."""
        if self.process is None:
            await self.bad_days()
        await super().start(fuse)

    async def stop(self):
        """Nobody outlives the story."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.communicate()
        await super().stop()

    async def bad_days(self):
        self.key = (
            await self.run_command("keys", "create", "--name", "shop", "--scope", "admin", "--quiet")
        ).strip()
        for kind in ("timeout_before", "timeout_after"):  # their waits are tried elsewhere
            self.side.simulator.faults.in_force["calls"].pop(kind)
        for _ in range(KILLS):
            await self.launch()
            self.kill_at = self.answered + self.chance.randint(*CALLS_BETWEEN)
            callers = [self.call_on(Random(f"{self.seed} {self.kill_at} {n}")) for n in range(CALLERS)]
            await asyncio.gather(*callers)
            assert await self.process.wait() == -9
            await self.side.simulator.settle()
        await self.launch()  # and now everyone gets an answer
        for wish in self.wishes:
            await self.ask(wish)
        self.process.terminate()
        await self.process.communicate()
        assert self.process.returncode == 0

    async def run_command(self, *arguments):
        """What a command of ours prints."""
        process = await self.spawn(*arguments)
        printed, _ = await process.communicate()
        assert process.returncode == 0, self.log
        return printed.decode()

    async def launch(self):
        """A process that answers."""
        self.process = await self.spawn("serve", "--i-understand-open-mode")
        said = b""
        while READY.encode() not in said:
            line = await self.process.stdout.readline()
            assert line, self.log
            said += line

    async def spawn(self, *arguments):
        host, port = self.address
        ours = {"MINITILL_HOST": host, "MINITILL_PORT": str(port), "MINITILL_LOG_LEVEL": "error"}
        environment = {"PATH": "", "PYTHONPATH": ".", **ours, **self.variables()}
        command = (sys.executable, "-m", "entrypoints", *arguments)
        with (self.path / "service.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=log
            )

    @property
    def log(self):
        """What our processes complained of."""
        return (self.path / "service.log").read_text()

    async def call_on(self, chance):
        """One caller: orders, pays, refunds and asks, until nobody answers any more."""
        try:
            while True:
                act = chance.choice((self.order, self.order, self.pay_one, self.refund_one, self.repeat))
                await act(chance)
        except (aiohttp.ClientError, ConnectionError):
            return

    async def order(self, chance):
        body = {"openid": f"o{chance.randint(1, 3)}", "total_fee": chance.randint(1, 500), "body": "茶"}
        await self.ask(self.wish("create", body))

    async def pay_one(self, chance):
        """The payer pays, and goes on looking at the page."""
        number = self.some_number(chance)
        if number:
            try:
                self.side.pay(number, chance.choice(("OTHERS", "CMB_CREDIT")))
            except Refusal:
                return
            self.paid.append(number)
            await self.get(f"query/{number}")

    async def refund_one(self, chance):
        if self.paid:
            body = {"out_trade_no": chance.choice(self.paid), "refund_fee": chance.randint(1, 200)}
            await self.ask(self.wish("refund", body))

    async def repeat(self, chance):
        if self.wishes:
            await self.ask(chance.choice(self.wishes))

    def wish(self, path, body):
        self.wishes.append(Wish(path, f"key {len(self.wishes)}", body))
        return self.wishes[-1]

    def some_number(self, chance):
        made = [wish.answer[1]["data"]["out_trade_no"] for wish in self.wishes if was_made(wish)]
        return chance.choice(made) if made else ""

    async def ask(self, wish):
        """Make the call; whatever once was answered for good is answered so again (R10)."""
        url = self.side.notify_url.replace("notify", wish.path)
        headers = {"Idempotency-Key": wish.key, "Authorization": f"Bearer {self.key}"}
        async with self.side.session.post(url, json=wish.body, headers=headers) as response:
            found = response.status, without_request_id(await response.json())
        if wish.answer is not None and wish.answer[0] == 200:
            assert found == wish.answer, wish
        wish.answer = found
        self.count()

    async def get(self, path):
        async with self.side.session.get(self.side.notify_url.replace("notify", path)) as response:
            await response.read()
        self.count()

    def count(self):
        """The machine loses its power after so many answers, whatever is under way."""
        self.answered += 1
        if self.answered == self.kill_at:
            self.process.kill()


def was_made(wish):
    return wish.path == "create" and wish.answer is not None and wish.answer[0] == 200


def without_request_id(document):
    text = json.dumps(document, sort_keys=True)
    error = document.get("error")
    return json.loads(text) | ({"error": {**error, "request_id": ""}} if error else {})


@pytest.fixture
def shop_door(runner):
    """The shop's backend on a socket: what it hears goes to `heard`, in order."""

    async def hear(request):
        told = await request.json()
        heard.append((told["data"]["out_trade_no"], told["data"]["version"]))
        return web.Response()

    heard, app = [], web.Application()
    app.router.add_post("/hook", hear)
    door = web.AppRunner(app, access_log=None)
    runner.run(door.setup())
    runner.run(web.TCPSite(door, "127.0.0.1", 0).start())
    yield f"http://127.0.0.1:{door.addresses[0][1]}/hook", heard
    runner.run(door.cleanup())


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", ["kill-1", "kill-2"])
async def test_a_service_that_is_killed_under_load_loses_and_repeats_nothing(seed, tmp_path, shop_door):
    """R10, R13, R25, R30, R34, R35, R45: SIGKILL in the middle of creates, payments, refunds and letters."""
    chosen = os.environ.get("SIMULATION_SEED", "")
    seed = chosen if chosen.startswith("kill") else seed
    story = KillStory(seed, path=tmp_path)
    story.hook, story.shop.heard = shop_door
    await story.run(0)
    assert story.answered > KILLS * CALLS_BETWEEN[0]
    assert story.side.book.refunds, "there were refunds"

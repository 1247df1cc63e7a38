"""Serving until told to stop: with WeChat's credentials, or in a sandbox that needs nothing."""

import asyncio
import logging
import secrets
import signal
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen
from dotenv import dotenv_values

from adapters.wechat.simulator import Credentials, Simulator, prepare
from entrypoints import logs
from entrypoints.settings import OURS, WECHAT, Settings, load, unknown
from entrypoints.till import Till, address_of, listen

log = logging.getLogger(__name__)

# In the sandbox these still choose what is tried; WeChat's credentials are never taken from outside.
SANDBOX_CHOICES = (WECHAT + "API_VERSION", WECHAT + "SIGN_TYPE", WECHAT + "TIMEOUT_SECONDS")
LOOPBACK = "127.0.0.1"

OPEN_WARNING = (
    "callers are not authenticated: whoever reaches this address can read every order and set every price. "
    "Keep it behind a firewall or a proxy that asks who is calling"
)


@frozen(kw_only=True)
class Sandbox:
    """What `serve --sandbox` was asked for; ports may be 0 for any."""

    host: str
    port: int
    simulator_port: int
    database: str | None = None
    public_key_mode: bool = False


async def until_stopped(till: Till, door: socket.socket, banner: str) -> None:
    """Serve until SIGINT or SIGTERM; requests and rounds under way end first."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopped.set)
    try:
        await till.start(door)
        print(banner, flush=True)
        await stopped.wait()
        print("stopping: requests under way end first", flush=True)
    finally:
        await till.stop()


async def serve(settings: Settings, *, with_jobs: bool = True) -> None:
    """Serve with WeChat's credentials. Raises OSError, StoreUnavailable or SchemaTooNew."""
    if settings.auth_mode == "open":
        log.warning("AUTH_MODE=open: %s", OPEN_WARNING)
    with listen(settings.host, settings.port) as door:
        till = await Till.open(settings, with_jobs=with_jobs)
        url = address_of(door, "https" if till.tls else "http")
        await until_stopped(till, door, f"minitill serves at {url} (health: {url}/readyz)")


async def work(settings: Settings) -> None:
    """Run the repeating work alone, until SIGINT or SIGTERM; rounds under way end first."""
    till = await Till.open(settings)
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    try:
        till.start_jobs()
        print("minitill works", flush=True)
        await stopped.wait()
    finally:
        await till.stop()


async def serve_sandbox(wish: Sandbox, given: Mapping[str, str]) -> None:
    """Serve beside a WeChat Pay simulator, with credentials made on the spot and thrown away at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="minitill-sandbox-") as name,
        listen(wish.host, wish.port) as door,
    ):
        folder = Path(name)
        simulator = await start_simulator(folder, wish, f"{address_of(door)}/api/wechat/pay/notify")
        try:
            settings = load(sandbox_variables(folder, wish, given))
            logs.set_up(settings.log_level, settings.log_format, logs.secrets_of(settings))
            for fault in unknown({k: v for k, v in given.items() if k.startswith(OURS)}):
                log.warning("%s", fault)
            till = await Till.open(settings, sandbox=True)
            await until_stopped(till, door, sandbox_banner(address_of(door), simulator.url))
        finally:
            await simulator.stop()


async def start_simulator(folder: Path, wish: Sandbox, notify_url: str) -> Simulator:
    """A simulator on its port, its credentials in the folder."""

    def account(port: int) -> Credentials:
        return prepare(
            folder,
            base_url=f"http://{LOOPBACK}:{port}",
            notify_url=notify_url,
            public_key_mode=wish.public_key_mode,
        )

    simulator = Simulator(account(wish.simulator_port))
    await simulator.start(LOOPBACK, wish.simulator_port)
    account(int(simulator.url.rpartition(":")[2]))  # port 0 took a free one: now it is known
    return simulator


def sandbox_variables(folder: Path, wish: Sandbox, given: Mapping[str, str]) -> dict[str, str]:
    """The simulator's credentials, our own settings, and the few of WeChat's that are a choice."""
    made = {k: v for k, v in dotenv_values(folder / "simulator.env").items() if v is not None}
    ours = {k: v for k, v in given.items() if k.startswith(OURS) or k in SANDBOX_CHOICES}
    database = wish.database or ours.get(OURS + "DATABASE") or f"sqlite:///{folder / 'minitill.db'}"
    return {
        **made,
        **ours,
        # Whoever tries the sandbox needs no login, unless asked for.
        OURS + "AUTH_MODE": ours.get(OURS + "AUTH_MODE", "open"),
        **_sandbox_secret(ours),
        OURS + "HOST": wish.host,
        OURS + "PORT": str(wish.port),
        OURS + "DATABASE": database,
        # Load may be tried here; who wants to see a limit sets one.
        OURS + "CREATES_PER_MINUTE": ours.get(OURS + "CREATES_PER_MINUTE", "100000"),
        OURS + "LOGINS_PER_MINUTE": ours.get(OURS + "LOGINS_PER_MINUTE", "100000"),
        # The shop of a first try runs on the same machine.
        OURS + "WEBHOOK_ALLOW_PRIVATE": "true",
    }


def _sandbox_secret(ours: Mapping[str, str]) -> dict[str, str]:
    """Payers' tokens last as long as the sandbox, unless a secret was given."""
    name = OURS + "TOKEN_SECRET"
    given = ours.get(name) or ours.get(name + "_FILE")
    return {} if given else {name: secrets.token_urlsafe(32)}


def sandbox_banner(url: str, simulator_url: str) -> str:
    """What a newcomer needs to know, in both languages."""
    return f"""
  minitill sandbox · 沙箱已启动 — nothing here moves money · 不涉及真实资金

    service    服务    {url}
    payer      付款页  {simulator_url}/            pay, cancel or fail an order here · 在这里扮演付款人
    health     状态    {url}/readyz
    API docs   文档    {url}/docs

  Create an order, then pay it on the payer page · 创建订单，然后在付款页付款：

    curl -s {url}/api/wechat/pay/create -H 'Content-Type: application/json' \\
      -d '{{"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "total_fee": 100, "body": "图片增强服务"}}'

  Stop with Ctrl-C · 按 Ctrl-C 停止
"""

"""The processes under test: a simulator and a service, as an operator starts them."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

from attrs import frozen
from dotenv import dotenv_values

from adapters.wechat.simulator import Credentials, prepare

READY_SECONDS = 20
TICKS = os.sysconf("SC_CLK_TCK")


@frozen
class Service:
    """A running service: where it is, whose it is, what it has used so far."""

    url: str
    version: str
    credentials: Credentials
    process: "subprocess.Popen[bytes]"
    headers: dict[str, str]

    def cpu_seconds(self) -> float:
        """CPU time of the service's process, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mib(self) -> int:
        """Resident memory."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) // 1024
        return 0


@contextmanager
def service(folder: Path, version: str) -> Iterator[Service]:
    """Start both, wait until the service is ready, stop both."""
    simulator_port, port = free_port(), free_port()
    credentials = prepare(
        folder,
        base_url=f"http://127.0.0.1:{simulator_port}",
        notify_url=f"http://127.0.0.1:{port}/api/wechat/pay/notify",
    )
    environ = {
        **{k: v for k, v in dotenv_values(folder / "simulator.env").items() if v is not None},
        "PATH": os.environ.get("PATH", ""),
        "WECHAT_PAY_API_VERSION": version,
        "MINITILL_PORT": str(port),
        "MINITILL_DATABASE": f"sqlite:///{folder / 'bench.db'}",
        "MINITILL_TOKEN_SECRET": "a secret of the benchmark that guards nothing",
        "MINITILL_LOG_FORMAT": "json",
        "MINITILL_CREATES_PER_MINUTE": "100000",
    }
    minitill = [sys.executable, "-m", "entrypoints"]
    key = subprocess.check_output(
        [*minitill, "keys", "create", "--name", "bench", "--scope", "admin", "--quiet"],
        env=environ,
        text=True,
    ).strip()
    log = (folder / "service.log").open("wb")
    running = [
        subprocess.Popen(
            [*minitill, "simulator", "--port", str(simulator_port), "--dir", str(folder)],
            env=environ,
            stdout=subprocess.DEVNULL,
        ),
        subprocess.Popen([*minitill, "serve"], env=environ, stdout=subprocess.DEVNULL, stderr=log),
    ]
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(f"{url}/readyz", folder / "service.log")
        yield Service(url, version, credentials, running[1], {"Authorization": f"Bearer {key}"})
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(READY_SECONDS)
        log.close()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port: int = door.getsockname()[1]
        return port


def wait_until_ready(url: str, log: Path) -> None:
    """Ask until the answer is 200. Raises TimeoutError after 20 seconds, with the end of the log."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.05)
    raise TimeoutError(
        f"{url} was not ready in {READY_SECONDS} s:\n{log.read_text(encoding='utf-8')[-2000:]}"
    )

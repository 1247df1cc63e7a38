"""What the doctor finds out about addresses: WeChat's, which we call, and ours, which WeChat calls."""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp

from adapters.wechat import v2_wire, v3_wire
from adapters.wechat.client import CONNECT_SECONDS, USER_AGENT
from adapters.wechat.finding import Finding, failed, fine, warning

ANSWER_SECONDS = 5.0  # WeChat waits no longer either (v2.md section 11)
ANSWER_BYTES_MAX = 64 * 1024
TRUST = "look at the clock, bring ca-certificates up to date, and see whether a proxy opens TLS"
OWN_CERTIFICATE = "serve the whole chain of a certificate that the public trusts, or WeChat will not call"
HAIRPIN = (
    "many networks can't call their own public address: try it from outside, for example with"
    " curl -X POST from a phone's network"
)

Resolve = Callable[[str], Awaitable[Sequence[str]]]  # a host's IP addresses; raises OSError


async def resolve(host: str) -> Sequence[str]:
    """By the system; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return sorted({str(place[4][0]) for place in found})


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own, by its spelling."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


async def reach(url: str) -> Finding:
    """Resolve, connect, and shake hands; nothing is sent."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    place = f"{host}:{port}"
    try:
        async with asyncio.timeout(2 * CONNECT_SECONDS):
            context = ssl.create_default_context() if secure else None
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except socket.gaierror:
        return failed(f"{host} is not found", "check the name and this machine's DNS")
    except ssl.SSLCertVerificationError as error:
        return failed(f"{place}: its certificate is not trusted ({error.verify_message})", TRUST)
    except ssl.SSLError as error:
        return failed(f"{place}: no TLS ({error.reason})", TRUST)
    except TimeoutError:
        return failed(f"{place} is silent", "let connections out to it through the firewall")
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else type(error).__name__
        return failed(f"{place}: {why}", "check the address, and let connections out to it")
    tls = writer.get_extra_info("ssl_object")
    writer.close()
    with contextlib.suppress(OSError):  # it only takes leave
        await writer.wait_closed()
    return fine(f"{place} answers{f' over {tls.version()}' if tls else ''}")


async def public(url: str, resolve_: Resolve, is_public: Callable[[str], bool]) -> Finding:
    """Whether every address of the host is one that WeChat can call (R21)."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        addresses = await resolve_(host)
    except OSError:
        return failed(f"{host} is not found", "give the name an address in the public DNS")
    inside = [address for address in addresses if not is_public(address)]
    if inside or not addresses:
        return failed(f"{host} is at {', '.join(inside) or 'no address'}", "use a public address")
    if parts.scheme != "https":
        return warning(f"{host} is public, and plain http", "serve https: WeChat asks for it")
    return fine(f"{host} is at {', '.join(addresses)}")


async def ask_notify(url: str, now: datetime | None) -> Finding:
    """Call it as WeChat's probes do, with a false signature (v3.md section 9); a minitill says no.

    `now` stamps a V3 probe; without it the probe is V2's.
    """
    body, headers = _probe(now)
    limit = aiohttp.ClientTimeout(total=2 * ANSWER_SECONDS, sock_read=ANSWER_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, headers={"User-Agent": USER_AGENT}) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            status = answer.status
            said = await answer.content.read(ANSWER_BYTES_MAX)
    except aiohttp.ClientConnectorCertificateError:
        return failed("its certificate is not trusted", OWN_CERTIFICATE)
    except aiohttp.ClientSSLError:
        return failed("no TLS there", OWN_CERTIFICATE)
    except (aiohttp.ClientConnectorError, TimeoutError) as error:
        return warning(f"can't be reached from here ({type(error).__name__})", HAIRPIN)
    except aiohttp.ClientError as error:
        return failed(f"the connection broke ({type(error).__name__})", "see what stands before minitill")
    return _heard(status, said)


def _heard(status: int, said: bytes) -> Finding:
    elsewhere = "let the proxy hand this path to minitill, whole and without a login"
    if 200 <= status < 300:
        remedy = f"{elsewhere}: whatever WeChat tells it now is lost"
        return failed(f"HTTP {status}: something else answers there", remedy)
    if 300 <= status < 400:
        return failed(f"HTTP {status}: a redirect, which WeChat does not follow", "name the last address")
    if not _is_refusal(said):
        return failed(f"HTTP {status}, and not in minitill's words", elsewhere)
    if status >= 500:
        return failed(f"HTTP {status}: a minitill with a fault of its own", "look at its log")
    return fine(f"a minitill answers, and refused a false signature (HTTP {status})")


def _probe(now: datetime | None) -> tuple[bytes, dict[str, str]]:
    nonce = secrets.token_hex(16)
    if now is None:
        fields = {"return_code": "SUCCESS", "nonce_str": nonce, "sign": "0" * 32}
        return v2_wire.write(fields), {"Content-Type": "text/xml"}
    return b"{}", {
        "Content-Type": "application/json",
        "Wechatpay-Timestamp": str(int(now.timestamp())),
        "Wechatpay-Nonce": nonce,
        "Wechatpay-Serial": "0",
        "Wechatpay-Signature": v3_wire.PROBE_PREFIX + nonce,
    }


def _is_refusal(said: bytes) -> bool:
    """FAIL in V3's JSON or in V2's XML (R33)."""
    with contextlib.suppress(ValueError, RecursionError):  # then it is no JSON
        found = json.loads(said)
        return isinstance(found, dict) and found.get("code") == "FAIL"
    try:
        return v2_wire.read(said).get("return_code") == "FAIL"
    except v2_wire.MalformedXml:
        return False

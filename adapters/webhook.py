"""The shop's backend, told by Standard Webhooks, and never at an address inside the network."""

import contextlib
import json
import socket
import time
import unicodedata
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from attrs import Attribute, define, field, frozen
from standardwebhooks import Webhook
from yarl import URL

from application.courier import ROUND_MAX
from application.outbox import ANSWER_BYTES_MAX, Backend, Delivery
from domain.events import Event

LIMIT_SECONDS = 10.0  # for the whole of a try, the name's look-up too
KEEP_ALIVE_SECONDS = 4.0  # less than the 5 s after which many a backend hangs up
USER_AGENT = "minitill/0.1"

SECRET_PREFIX = "whsec_"  # noqa: S105 - how Standard Webhooks marks a secret, not one itself
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64

GLOBAL_IPV6 = IPv6Network("2000::/3")  # all of IPv6 that was ever given out for the open network
NAT64 = IPv6Network("64:ff9b::/96")
# Kept for machinery or for books, which not every Python's is_global knows.
SET_APART = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))

NOT_FOUND = "the shop's host name was not found"
INSIDE = "the shop's address points inside the network"
# What aiohttp raises, in words; the first that fits counts.
FAILURES: Sequence[tuple[type[Exception], str]] = (
    (aiohttp.ClientConnectorDNSError, NOT_FOUND),
    (aiohttp.ClientConnectorCertificateError, "the shop's certificate is not trusted"),
    (aiohttp.ClientSSLError, "no TLS connection with the shop"),
    (aiohttp.ClientConnectorError, "no connection with the shop"),
    (aiohttp.ClientConnectionError, "the connection with the shop broke"),
    (aiohttp.InvalidURL, "the shop's address can't be used"),
    (aiohttp.ClientError, "what the shop answered is not HTTP"),
)


# -- which addresses will do ---------------------------------------------------------------------


class InsideTheNetwork(OSError):
    """The shop's host is at an address that the open network can not reach."""


def is_outside(address: str) -> bool:
    """Whether an IP address is on the open network; forms that carry an IPv4 address are judged by it."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        carried = found.ipv4_mapped or found.sixtofour
        if found in NAT64:
            carried = IPv4Address(found.packed[-4:])
        if carried is None and found not in GLOBAL_IPV6:
            return False
        found = carried or found
    apart = any(found in network for network in SET_APART)
    return found.is_global and not found.is_multicast and not apart


def webhook_url_problem(url: str, *, allow_private: bool) -> str:
    """Why minitill would not tell a shop at this address, never quoting it; "" if it would.

    It asks no name server: where a name leads is looked at with each delivery.
    """
    try:
        parts = URL(url)
        host = parts.raw_host or ""
        host.encode("idna")  # raises for what no name server could be asked
    except ValueError:
        return "is no address"
    schemes = ("https", "http") if allow_private else ("https",)
    beginnings = " or ".join(f"{scheme}://" for scheme in schemes)
    problems = {
        "holds a blank or an invisible character": " " in url or not url.isprintable(),
        f"does not begin with {beginnings}": parts.scheme not in schemes,
        "names no host": not host.strip("."),
        "names no port that can be reached": parts.port == 0,
        "holds a user name or a password": parts.user is not None or parts.password is not None,
        "has a fragment": "#" in url,
        "points inside the network": not allow_private and _is_named_inside(host),
    }
    return next((problem for problem, found in problems.items() if found), "")


def _is_named_inside(host: str) -> bool:
    """Whether the host's very spelling says so: `localhost`, or an address in any form a system reads."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):  # then it is no address in the usual form
        return not is_outside(str(ip_address(name)))
    with contextlib.suppress(OSError, ValueError):  # then it is no 127.1, 0x7f000001 or 017700000001 either
        return not is_outside(str(IPv4Address(socket.inet_aton(name))))
    return False


@frozen
class OutsideResolver(AbstractResolver):
    """Resolves a host; refuses it as soon as its spelling or one of its addresses is inside the network."""

    resolver: AbstractResolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raise InsideTheNetwork, or OSError when the host has no address."""
        if _is_named_inside(host):
            raise InsideTheNetwork(INSIDE)
        found = await self.resolver.resolve(host, port, family)
        if not found:
            raise OSError(NOT_FOUND)
        if not all(is_outside(one["host"]) for one in found):
            raise InsideTheNetwork(INSIDE)
        return found

    async def close(self) -> None:
        await self.resolver.close()


def outside_socket(place: aiohttp.AddrInfoType) -> socket.socket:
    """A socket for an address about to be called: the last gate, also for hosts that needed no resolving.

    Raises InsideTheNetwork.
    """
    family, kind, protocol, _, address = place
    if not is_outside(str(address[0])):
        raise InsideTheNetwork(INSIDE)
    return socket.socket(family, kind, protocol)


# -- the backend ---------------------------------------------------------------------------------


def _signer(secret: str) -> Webhook:
    """What signs with the secret; raise ValueError for what is none."""
    encoded = secret.removeprefix(SECRET_PREFIX)
    key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    if encoded == secret or not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise ValueError
    return Webhook(key)


def _valid_secrets(_owner: object, _attribute: "Attribute[Sequence[str]]", secrets: Sequence[str]) -> None:
    if not secrets:
        raise ValueError("a webhook needs a secret")
    for place, secret in enumerate(secrets, 1):
        try:
            _signer(secret)
        except ValueError:
            # None of the causes: they may quote the secret.
            raise ValueError(
                f"webhook secret {place} of {len(secrets)} must be {SECRET_PREFIX} and then"
                f" {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes in base64"
            ) from None


def _valid_seconds(_owner: object, _attribute: "Attribute[float]", seconds: float) -> None:
    if not seconds > 0:
        raise ValueError("limit_seconds must be more than 0")


@define(kw_only=True, eq=False)
class ShopBackend(Backend):
    """Tells the shop one event by one POST (Standard Webhooks 1.0.0). Close it when the service stops.

    Every secret signs, the newest first, so that the shop can change over in its
    own time. `allow_private` lets the address be http and inside the network, for
    a shop that runs beside minitill. `limit_seconds` holds for a whole try.
    Raises ValueError for an address or a secret that will not do, quoting neither.
    """

    url: str = field(repr=False)  # some shops' addresses carry a key of their own
    secrets: Sequence[str] = field(repr=False, validator=_valid_secrets)
    allow_private: bool = False
    limit_seconds: float = field(default=LIMIT_SECONDS, validator=_valid_seconds)
    resolver: AbstractResolver | None = None  # the system's, unless another is given
    monotonic: Callable[[], float] = time.monotonic
    _signers: Sequence[Webhook] = field(init=False, repr=False)
    _session: aiohttp.ClientSession | None = field(default=None, init=False, repr=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        problem = webhook_url_problem(self.url, allow_private=self.allow_private)
        if problem:
            raise ValueError(f"the shop's address {problem}")
        self._signers = tuple(_signer(secret) for secret in self.secrets)

    async def hear(self, event: Event, now: datetime) -> Delivery:
        """Tell the shop once; only a 2xx is heard, a redirect or 410 Gone is not."""
        text = message(event)
        started = self.monotonic()
        status, answer, error = None, "", "minitill is stopping"
        if not self._closed:
            try:
                status, answer = await self._post(text.encode(), self._headers(event.id, now, text))
                error = "redirects are not followed" if status // 100 == 3 else ""
            except TimeoutError:
                error = f"no answer within {self.limit_seconds:g} s"
            except (aiohttp.ClientError, OSError) as failure:
                error = _words(failure)
        return Delivery(
            event_id=event.id,
            at=now,
            heard=status is not None and status // 100 == 2,
            status=status,
            answer=answer,
            error=error,
            milliseconds=round((self.monotonic() - started) * 1000),
        )

    async def close(self) -> None:
        """Give the connections back; nobody hears anything after this."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _headers(self, message_id: str, now: datetime, text: str) -> Mapping[str, str]:
        at = now.astimezone(UTC)  # the library takes any moment for UTC
        return {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signer.sign(message_id, at, text) for signer in self._signers),
        }

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        request = self._open_session().post(URL(self.url), data=body, headers=headers, allow_redirects=False)
        async with request as response:
            # What follows the first bytes is not waited for: leaving here with more to come hangs up.
            return response.status, _readable(await _first_bytes(response.content))

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            resolver = self.resolver or aiohttp.ThreadedResolver()
            connector = aiohttp.TCPConnector(
                limit=ROUND_MAX,  # no letter of a round waits for another's connection
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                resolver=resolver if self.allow_private else OutsideResolver(resolver),
                socket_factory=None if self.allow_private else outside_socket,
                ttl_dns_cache=0,  # each connection asks anew; those of one moment ask together
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=self.limit_seconds),
                auto_decompress=False,  # a small answer must not unpack into a huge one
                read_bufsize=ANSWER_BYTES_MAX,
                trust_env=False,  # a proxy would call the address for us, unlooked at
            )
        return self._session


def message(event: Event) -> str:
    """What the shop hears: one line of JSON, in ASCII so that it has the same bytes in any encoding."""
    at = event.at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    data = {**event.facts, "version": event.version}
    return json.dumps({"type": event.name, "timestamp": at, "data": data}, separators=(",", ":"))


def _words(failure: Exception) -> str:
    if isinstance(getattr(failure, "os_error", None), InsideTheNetwork):
        return INSIDE
    return next((words for kind, words in FAILURES if isinstance(failure, kind)), "no connection")


async def _first_bytes(stream: aiohttp.StreamReader) -> bytes:
    """The beginning of an answer, as far as it is kept."""
    kept = b""
    # The status has said it already: an answer that breaks off is kept as far as it came.
    with contextlib.suppress(aiohttp.ClientError, OSError):
        while part := await stream.read(ANSWER_BYTES_MAX - len(kept)):
            kept += part
    return kept


def _readable(answer: bytes) -> str:
    """The answer as text without what could upset a terminal or a page."""
    text = answer.decode("utf-8", "replace")
    return "".join(mark for mark in text if not unicodedata.category(mark).startswith("C"))

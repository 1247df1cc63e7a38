"""The network address a request comes from."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from aiohttp import web

Networks = Sequence[IPv4Network | IPv6Network]

# The proxies of the application whose X-Forwarded-For is believed; none unless the settings name them.
PROXIES: web.AppKey[Networks] = web.AppKey("proxies")
NOWHERE = "127.0.0.1"  # of a Unix socket
HOP = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)")


def client_address(request: web.Request) -> str:
    """The address of whoever calls, in its usual spelling.

    It is the connection's peer. Only when that is a trusted proxy does X-Forwarded-For
    count, and of it the rightmost hop that is no trusted proxy: what stands further left
    was written by the caller. Where a hop on the way is no address, it is the peer.
    """
    forwarded = request.headers.getall("X-Forwarded-For", ())
    return told_address(request.remote or NOWHERE, forwarded, request.app.get(PROXIES, ()))


def told_address(peer: str, forwarded: Sequence[str], proxies: Networks) -> str:
    """The client's address by peer and X-Forwarded-For; see `client_address`."""
    peer = plain(peer.partition("%")[0]) or NOWHERE
    if not forwarded or not is_in(peer, proxies):
        return peer
    found = peer
    for hop in reversed(",".join(forwarded).split(",")):
        spelt = HOP.fullmatch(hop.strip(" \t"))
        found = plain(next(part for part in spelt.groups() if part)) if spelt else ""
        if not found:
            return peer
        if not is_in(found, proxies):
            break
    return found


def plain(address: str) -> str:
    """The address as everyone writes it, an IPv4 one inside IPv6 as IPv4; '' for what is none."""
    try:
        found = ip_address(address)
    except ValueError:
        return ""
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return str(found)


def is_in(address: str, networks: Networks) -> bool:
    """Whether one of the networks holds the address."""
    found = ip_address(address)
    return any(found in network for network in networks)

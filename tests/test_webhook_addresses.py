"""Where the shop may not be: inside the network, however its address is spelt and wherever its name leads."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from adapters import webhook
from adapters.webhook import InsideTheNetwork, OutsideResolver, ShopBackend, is_outside, webhook_url_problem
from tests.webhook_shop import EVENT, NEW, NOW, Names, Shop


@pytest.fixture
def shop(runner):
    shop = runner.run(Shop().open())
    yield shop
    runner.run(shop.close())


# -- addresses inside the network ----------------------------------------------------------------

# Hosts that lead to this machine, however they are spelt; then others of somebody's own network.
LOCAL_HOSTS = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.8.9.10",
    "localhost",
    "LocalHost.",
    "127.1",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7F000001",
    "2130706433",
    "017700000001",
    "0",
    "0.0.0.0",  # noqa: S104 - called, not listened on
    "①②⑦.0.0.1",
    "127。0。0。1",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[0:0:0:0:0:ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]",
]
PRIVATE_HOSTS = [
    "10.0.0.8",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.100.100.200",
    "192.0.0.192",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[fd00::1]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fec0::1]",
    "[ff0e::1]",
    "[64:ff9b:1::808:808]",
    "[64:ff9b::a9fe:a9fe]",
    "[2001::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[2002:a00:1::]",
    "[::ffff:10.0.0.8]",
    "[::ffff:192.168.1.1]",
]


@pytest.mark.parametrize("host", LOCAL_HOSTS + PRIVATE_HOSTS)
def test_the_settings_are_told_of_a_host_inside_the_network(host):
    assert webhook_url_problem(f"https://{host}/", allow_private=False) == "points inside the network"
    assert webhook_url_problem(f"https://{host}:8443/", allow_private=True) == ""
    with pytest.raises(ValueError, match="points inside the network"):
        ShopBackend(url=f"https://{host}/", secrets=[NEW])


@pytest.fixture
def settings_asleep(monkeypatch):
    """As if the settings had let every address pass: what is left is the check at each delivery."""
    monkeypatch.setattr(webhook, "webhook_url_problem", lambda _url, **_: "")


@pytest.mark.parametrize("host", LOCAL_HOSTS + PRIVATE_HOSTS)
async def test_nothing_is_delivered_inside_the_network(shop, settings_asleep, host):
    delivery = await shop.backend(shop.url(host), allow_private=False).hear(EVENT, NOW)
    assert not delivery.heard
    # aiohttp itself does not take some of the spellings.
    assert delivery.error in {webhook.INSIDE, "the shop's address can't be used"}
    assert shop.heard == []


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["::1", "2606:4700::1"]]
)
async def test_one_address_inside_the_network_is_enough_to_refuse_a_name(shop, settings_asleep, addresses):
    names = Names([addresses])
    backend = shop.backend(shop.url("shop.example"), allow_private=False, resolver=names)
    assert (await backend.hear(EVENT, NOW)).error == webhook.INSIDE
    assert [host for host, *_ in names.asked] == ["shop.example"]
    assert shop.heard == []


async def test_a_name_that_turns_inside_between_two_deliveries_is_refused(shop, settings_asleep, monkeypatch):
    """DNS rebinding: the name was fine when it was looked at first."""
    monkeypatch.setattr(webhook, "is_outside", lambda address: address == "127.0.0.1")
    shop.answer = lambda _: web.Response(headers={"Connection": "close"})
    names = Names([["127.0.0.1"], ["127.0.0.2"]])
    backend = shop.backend(shop.url("shop.example"), allow_private=False, resolver=names)
    assert (await backend.hear(EVENT, NOW)).heard
    assert (await backend.hear(EVENT, NOW)).error == webhook.INSIDE
    assert len(shop.heard) == 1
    assert len(names.asked) == 2


async def test_an_address_is_looked_at_once_more_where_it_is_called(shop, settings_asleep, monkeypatch):
    monkeypatch.setattr(
        OutsideResolver, "resolve", lambda self, *place, **more: self.resolver.resolve(*place, **more)
    )
    backend = shop.backend(
        shop.url("shop.example"), allow_private=False, resolver=Names([["127.0.0.1", "127.0.0.2"]])
    )
    assert (await backend.hear(EVENT, NOW)).error == webhook.INSIDE
    assert shop.heard == []


async def test_the_resolver_lets_an_address_of_the_open_network_through():
    resolver = OutsideResolver(Names([["93.184.215.14", "2606:4700::1"], ["93.184.215.14", "10.0.0.1"]]))
    found = await resolver.resolve("shop.example", 443)
    assert [one["host"] for one in found] == ["93.184.215.14", "2606:4700::1"]
    with pytest.raises(InsideTheNetwork):
        await resolver.resolve("shop.example", 443)


@given(st.ip_addresses(v=4))
@example(IPv4Address("127.0.0.1"))
@example(IPv4Address("8.8.8.8"))
def test_an_ipv4_address_is_judged_alike_in_each_disguise(address):
    disguises = [
        f"::ffff:{address}",
        f"64:ff9b::{address}",
        str(IPv6Address((0x2002 << 112) | (int(address) << 80))),
    ]
    assert {is_outside(disguise) for disguise in disguises} == {is_outside(str(address))}


@given(st.ip_addresses())
def test_an_address_that_python_calls_private_is_never_outside(address):
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert not is_outside(str(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700::1", "64:ff9b::8.8.8.8"])
def test_an_address_of_the_open_network_is_outside(address):
    assert is_outside(address)


@pytest.mark.parametrize("address", ["", "shop.example", "127.1", "1.2.3.4.5"])
def test_what_is_no_address_is_not_outside(address):
    assert not is_outside(address)


# -- the settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "HTTPS://shop.example:8443/hooks?key=1",
        "https://店.example/回调",
        "https://8.8.8.8/",
    ],
)
def test_an_address_of_a_shop_will_do(url):
    assert webhook_url_problem(url, allow_private=False) == ""


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "does not begin with https://"),
        ("shop.example/hooks", "does not begin with https://"),
        ("http://shop.example/", "does not begin with https://"),
        ("ftp://shop.example/", "does not begin with https://"),
        ("file:///etc/passwd", "does not begin with https://"),
        ("https://", "names no host"),
        ("https:///hooks", "names no host"),
        ("https://shop:pass@shop.example/", "holds a user name or a password"),
        ("https://shop@shop.example/", "holds a user name or a password"),
        ("https://:pass@shop.example/", "holds a user name or a password"),
        ("https://shop.example/#top", "has a fragment"),
        ("https://shop.example/#", "has a fragment"),
        ("https://shop.example:0/", "names no port that can be reached"),
        ("https://shop.example:99999/", "is no address"),
        ("https://[::1/", "is no address"),
        ("https://shop..example/", "is no address"),
        (f"https://{'a' * 64}.example/", "is no address"),
        ("https://shop.example\\@evil.example/", "is no address"),
        ("https://shop.example/a b", "holds a blank or an invisible character"),
        ("https://shop.example/\n", "holds a blank or an invisible character"),
        ("https://api.localhost/", "points inside the network"),
    ],
)
def test_the_settings_are_told_what_is_wrong_with_an_address(url, problem):
    assert webhook_url_problem(url, allow_private=False) == problem
    with pytest.raises(ValueError, match=problem) as caught:
        ShopBackend(url=url, secrets=[NEW])
    assert not url or url not in str(caught.value)


def test_plain_http_is_for_a_shop_of_one_s_own_network():
    assert webhook_url_problem("http://shop:8080/hooks", allow_private=True) == ""
    problem = webhook_url_problem("ws://shop:8080/hooks", allow_private=True)
    assert problem == "does not begin with https:// or http://"


@given(st.text() | st.text().map("https://{}".format), st.booleans())
@example("https://\x00/", False)
@example("https://%00/", False)
def test_no_text_upsets_the_check_of_an_address(url, allow_private):
    assert isinstance(webhook_url_problem(url, allow_private=allow_private), str)

"""Whose address counts: the peer's, and what a trusted proxy tells of it."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.http.address import told_address
from tests.http_till import CREATE, TEA, Till

PROXIES = tuple(map(ip_network, ("10.0.0.0/8", "2001:db8:1::/48", "127.0.0.1")))


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7:51234"], "198.51.100.7"),
        ("10.0.0.1", [" 198.51.100.7 "], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7 , 10.2.3.4"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7", "10.2.3.4"], "198.51.100.7"),
        ("10.0.0.1", ["2a00:1450::8"], "2a00:1450::8"),
        ("10.0.0.1", ["[2A00:1450::8]:443"], "2a00:1450::8"),
        ("10.0.0.1", ["[2a00:1450:0:0:0:0:0:8]"], "2a00:1450::8"),
        ("10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("2001:db8:1::5", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
    ],
)
def test_a_trusted_proxy_tells_whom_it_serves(peer, forwarded, found):
    assert told_address(peer, forwarded, PROXIES) == found


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.9", ["198.51.100.7"], "203.0.113.9"),
        ("203.0.113.9", ["10.0.0.1"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.7, 10.2.3.4"], "198.51.100.7"),
        ("fe80::1%eth0", ["198.51.100.7"], "fe80::1"),
    ],
)
def test_what_a_caller_wrote_itself_is_not_believed(peer, forwarded, found):
    assert told_address(peer, forwarded, PROXIES) == found


@pytest.mark.parametrize(
    "told",
    [
        *("", ",", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "1.2.3.4:", "1.2.3.4:x", "01.2.3.4"),
        *("[::1", "::1]:80", "1.2.3.4\n5", "fe80::1%eth0", "[fe80::1%25eth0]:1", "localhost", "1.2.3.4;"),
        *("٣.1.1.1", "198.51.100.7, nonsense", "1.2.3.4, , 10.0.0.2"),
    ],
)
def test_a_hop_that_is_no_address_leaves_the_peer(told):
    assert told_address("10.0.0.1", [told], PROXIES) == "10.0.0.1"


@given(st.lists(st.text(alphabet="0123456789abcdefF:.,[]% \t_x%", max_size=40), max_size=4))
def test_whatever_is_told_the_answer_is_an_address_in_its_usual_spelling(forwarded):
    found = told_address("10.0.0.1", forwarded, PROXIES)
    assert told_address(found, [], ()) == found


@pytest.mark.parametrize(
    ("proxies", "told", "found"),
    [
        ((), "198.51.100.7", "127.0.0.1"),
        (PROXIES, "198.51.100.7", "198.51.100.7"),
        (PROXIES, "6.6.6.6\tnonsense", "127.0.0.1"),
    ],
)
async def test_the_order_is_placed_for_that_address(proxies, told, found):
    till = await Till().open(proxies=proxies)
    answer = await till.client.post(CREATE, json=TEA, headers={"X-Forwarded-For": told})
    assert answer.status == 200
    (order,) = till.gateway.placed
    assert order.placement.client_ip == found
    await till.close()

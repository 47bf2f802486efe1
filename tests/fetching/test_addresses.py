"""Addresses: only those of the public internet pass, whatever form they come in."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import UrlRefused
from service.fetching.addresses import is_public, parsed
from service.fetching.urls import FetchHosts, checked, redirected
from tests.harness.soak import examples

NONE = FetchHosts()
PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.0.0.1",
    "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1",
    "255.255.255.255",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.0", "172.32.0.1", "198.20.0.1"]


def carrying(text: str) -> list[str]:
    """IPv6 addresses in which this IPv4 address may hide."""
    number = int(ipaddress.IPv4Address(text))
    high, low = number >> 16, number & 0xFFFF
    turned = number ^ 0xFFFFFFFF
    return [
        f"::ffff:{text}",
        f"64:ff9b::{text}",
        f"2002:{high:x}:{low:x}::1",
        f"2001:0:{high:x}:{low:x}::1",
        f"2001:0:808:808:0:0:{turned >> 16:x}:{turned & 0xFFFF:x}",
        f"2606:4700::5efe:{high:x}:{low:x}",
        f"2606:4700::200:5efe:{high:x}:{low:x}",
    ]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_none_of_the_public_internet_however_they_are_carried(address: str) -> None:
    assert not is_public(parsed(address))
    assert [each for each in carrying(address) if is_public(parsed(each))] == []
    assert not is_public(parsed(f"::{address}"))
    assert not is_public(parsed(f"64:ff9b:1::{address}"))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass_also_where_they_are_carried(address: str) -> None:
    assert is_public(parsed(address))
    assert is_public(parsed(f"::ffff:{address}"))
    assert is_public(parsed(f"64:ff9b::{address}"))
    assert is_public(parsed(carrying(address)[2]))


@pytest.mark.parametrize(
    "address",
    ["::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1", "100::1",
     "3fff::1", "5f00::1", "4000::1", "64:ff9b:1::1", "2001:2::1", "2001:10::1"],
)  # fmt: skip
def test_special_addresses_of_version_6_do_not_pass(address: str) -> None:
    assert not is_public(parsed(address))


def test_global_addresses_of_version_6_pass() -> None:
    assert is_public(parsed("2606:4700:4700::1111"))
    assert is_public(parsed("2a00:1450:4001:82a::200e"))


@settings(max_examples=examples(300), deadline=None)
@given(st.ip_addresses())
def test_nothing_that_python_knows_as_special_passes(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if is_public(address):
        plain = getattr(address, "ipv4_mapped", None) or address
        if address not in ipaddress.ip_network("64:ff9b::/96") if address.version == 6 else True:
            assert plain.is_global
        assert not (plain.is_multicast or plain.is_loopback or plain.is_link_local or plain.is_private)


@pytest.mark.parametrize(
    "text",
    [
        "ftp://shop.example/a", "file:///etc/passwd", "//shop.example/a", "shop.example/a", "gopher://shop.example/",
        "http:/shop.example", "http://", "http:///a", "http://user@shop.example/", "http://u:p@shop.example/",
        "http://shop.example:8080/", "http://shop.example:22/", "http://shop.example:0/", "http://shop.example:99999/",
        "http://shop.example:８０/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/",
        "http://1.2.3/", "http://0x7f.0.0.1/", "http://127.0.0.01/", "http://1.2.3.4.5/", "http://shop.1/",
        "http://[::1/", "http://[::1%25eth0]/", "http://[fe80::1%eth0]/", "http://a b/", "http://shop.exa\nmple/",
        "http://shop.example\\@127.0.0.1/", "http://shop..example/", "http://-/", "http://%31.example/",
        "http://shop.example/\r\nX: y", "http://" + "a" * 64 + ".example/", "http://shop.example/" + "a" * 3000, "",
        "https://shop.example/\x00", "http://１２７.1/", "javascript:alert(1)", "http://[::ffff:127.0.0.1]x/",
    ],
)  # fmt: skip
def test_addresses_in_other_than_their_usual_spelling_are_refused(text: str) -> None:
    with pytest.raises(UrlRefused) as error:
        checked(text, NONE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("HTTP://Shop.Example", "http://shop.example/"),
        (" https://shop.example:443/a?b=c#d ", "https://shop.example/a?b=c"),
        ("http://shop.example.:80/a", "http://shop.example/a"),
        ("http://shop.example:443/a", "http://shop.example:443/a"),
        ("https://müller.example/größe 1.jpg?q=ä", "https://xn--mller-kva.example/gr%C3%B6%C3%9Fe%201.jpg?q=%C3%A4"),
        ("https://shop.example/a%20b.jpg", "https://shop.example/a%20b.jpg"),
        ("https://shop.example/?a=b@c", "https://shop.example/?a=b@c"),
        ("http://[2606:4700:0::1]/", "http://[2606:4700::1]/"),
        ("http://１.１.１.１/", "http://1.1.1.1/"),
        ("https://my_cdn.shop.example/a", "https://my_cdn.shop.example/a"),
    ],
)
def test_addresses_are_brought_into_one_spelling(text: str, becomes: str) -> None:
    assert str(checked(text, NONE)) == becomes


@settings(max_examples=examples(300), deadline=None)
@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://shop.example/", "http://shop.example"]))
def test_any_text_is_refused_or_an_address_that_stays_what_it_is(text: str, before: str) -> None:
    try:
        url = checked(before + text, NONE)
    except UrlRefused:
        return
    assert checked(str(url), NONE) == url
    assert str(url).isascii()
    assert url.port in (80, 443)


def test_hosts_are_let_in_by_name_and_port() -> None:
    hosts = FetchHosts.of("media.shop.internal:9000, *.lan, 10.0.0.5, [fd00::1]:8080, fd00::2")
    assert hosts.allow("media.shop.internal", 9000)
    assert not hosts.allow("media.shop.internal", 9001)
    assert hosts.allow("a.b.lan", 1234)
    assert not hosts.allow("lan", 80)
    assert not hosts.allow("evillan", 80)
    assert hosts.allow("10.0.0.5", 80)
    assert hosts.allow("fd00::1", 8080)
    assert not hosts.allow("fd00::1", 80)
    assert hosts.allow("fd00::2", 80)
    assert checked("http://media.shop.internal:9000/a", hosts).port == 9000
    for wrong in ("http://a", "a b", "a:0", "a:x", "user@a", "*"):
        with pytest.raises(ValueError, match="is no host"):
            FetchHosts.of(wrong)


def test_a_redirect_is_looked_at_like_an_address() -> None:
    here = checked("https://shop.example/a/b", NONE)
    assert str(redirected(here, "../c", NONE)) == "https://shop.example/c"
    assert str(redirected(here, "//cdn.example/x", NONE)) == "https://cdn.example/x"
    for wrong in ("http://shop.example/", "ftp://a/", "https://127.1/", "https://u@shop.example/", "https://[::"):
        with pytest.raises(UrlRefused):
            redirected(here, wrong, NONE)

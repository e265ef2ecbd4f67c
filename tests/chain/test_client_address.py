"""Client addresses as servers and gateways write them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_genesys_auth.chain.evidence import MAX_ADDRESS, read_address

ports = st.none() | st.integers(0, 65535)
zones = st.sampled_from(["", "%eth0", "%3"])


@given(st.ip_addresses(v=4), ports)
def test_ipv4_reads_back_without_its_port(address: IPv4Address, port: int | None) -> None:
    assert read_address(f"{address}" if port is None else f"{address}:{port}") == str(address)


@given(st.ip_addresses(v=6), ports, zones, st.booleans())
def test_ipv6_reads_back_without_port_and_zone(
    address: IPv6Address, port: int | None, zone: str, exploded: bool
) -> None:
    text = (address.exploded.upper() if exploded else str(address)) + zone
    expected = str(address.ipv4_mapped or address)
    assert read_address(f"[{text}]" if port is None else f"[{text}]:{port}") == expected
    assert read_address(text) == expected


@given(st.ip_addresses(v=4), ports)
def test_mapped_addresses_read_as_ipv4(address: IPv4Address, port: int | None) -> None:
    assert read_address(f"::ffff:{address}") == str(address)
    assert read_address(f"[::ffff:{address}]:{port or 0}") == str(address)


@given(st.text(max_size=2 * MAX_ADDRESS))
def test_any_text_is_an_address_or_unreadable(text: str) -> None:
    read = read_address(text)
    assert read_address(read) == read
    assert read == "" or set(read) <= set("0123456789abcdef.:")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unknown",
        "<local>",
        "unix:",
        "/run/portal.sock",
        "_hidden",
        "localhost",
        "192.0.2",
        "192.0.02.1",
        "192.0.2.1:",
        "192.0.2.1:http",
        "192.0.2.1:400001",
        "192.0.2.1:40001:1",
        "192.0.2.1:40001\n",
        "192.0.2.1:\u0664\u0662",
        "192.0.2.1, 192.0.2.2",
        "192.0.2.1%eth0",
        "[192.0.2.1]",
        "[192.0.2.1]:40001",
        "[2001:db8::1",
        "2001:db8::1]",
        "[[2001:db8::1]]",
        "[2001:db8::1]40001",
        "[2001:db8::1]:",
        "2001:db8:1:2:3:4:5:6:40001",
        "fe80::1%",
        "3221225985",
        "\ud800",
        "fe80::1%" + "x" * MAX_ADDRESS,
    ],
)
def test_anything_else_cannot_be_read(text: str) -> None:
    assert read_address(text) == ""

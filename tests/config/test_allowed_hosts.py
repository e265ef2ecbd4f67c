"""The hosts that may receive a Salesforce session ID: exact hosts and domain suffixes."""

from __future__ import annotations

import pytest

from flask_genesys_auth.config.addresses import AllowedHost


@pytest.mark.parametrize(
    ("entry", "allowed", "refused"),
    [
        (
            AllowedHost("login.salesforce.com"),
            [("https", "login.salesforce.com", 443)],
            [
                ("http", "login.salesforce.com", 443),
                ("https", "login.salesforce.com", 8443),
                ("https", "x.login.salesforce.com", 443),
                ("https", "xlogin.salesforce.com", 443),
                ("https", "login.salesforce.com.evil.example", 443),
            ],
        ),
        (
            AllowedHost(".my.salesforce.com"),
            [("https", "acme.my.salesforce.com", 443), ("https", "acme--dev.sandbox.my.salesforce.com", 443)],
            [
                ("https", "my.salesforce.com", 443),
                ("https", ".my.salesforce.com", 443),
                ("https", "evilmy.salesforce.com", 443),
                ("https", "acme.my.salesforce.com.evil.example", 443),
                ("http", "acme.my.salesforce.com", 443),
                ("https", "acme.my.salesforce.com", 80),
            ],
        ),
        (
            AllowedHost("127.0.0.1", "http", 5002),
            [("http", "127.0.0.1", 5002)],
            [("https", "127.0.0.1", 5002), ("http", "127.0.0.1", 5003), ("http", "127.0.0.1", 80)],
        ),
    ],
)
def test_entry_allows_exactly_the_host_it_names(
    entry: AllowedHost, allowed: list[tuple[str, str, int]], refused: list[tuple[str, str, int]]
) -> None:
    assert all(entry.matches(*parts) for parts in allowed)
    assert not any(entry.matches(*parts) for parts in refused)

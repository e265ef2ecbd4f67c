"""``endpoints``: list the policy of each endpoint."""

from __future__ import annotations

from typing import Any

import click
from flask import Flask
from flask.cli import with_appcontext

from ..web.access import policy_of
from ..web.policies import Policy, unknown_endpoints
from ..web.runtime import current_application, without_steps
from .base import as_json, print_json, print_table, require_runtime

METHODS_OF_FLASK = frozenset({"HEAD", "OPTIONS"})


@click.command("endpoints", short_help="List all endpoints with their policies.")
@as_json
@with_appcontext
def endpoints(as_json: bool) -> None:
    """List all endpoints with their policies and the source of each policy."""
    here = require_runtime()
    app = current_application()
    found = _endpoints(app)
    for finding in (*without_steps(here), *unknown_endpoints(app, here.settings)):
        click.echo(f"Warning: {finding}", err=True)
    if as_json:
        print_json(found)
        return
    lines = [(row["endpoint"], row["rule"], ", ".join(row["methods"]), row["policy"], row["source"]) for row in found]
    print_table(("ENDPOINT", "RULE", "METHODS", "POLICY", "SOURCE"), lines)


def _endpoints(app: Flask) -> list[dict[str, Any]]:
    """Return a row for each rule and policy: methods of a view class may differ in their policies."""
    rows = []
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: (rule.endpoint, rule.rule)):
        methods = rule.methods or set()
        shown = sorted(methods - METHODS_OF_FLASK) or sorted(methods)
        by_policy: dict[Policy, list[str]] = {}
        for method in shown:
            by_policy.setdefault(policy_of(app, rule.endpoint, method), []).append(method)
        for policy, named in by_policy.items():
            rows.append(
                {
                    "endpoint": rule.endpoint,
                    "rule": rule.rule,
                    "methods": named,
                    "policy": str(policy),
                    "protected": policy.protected,
                    "roles": sorted(policy.roles),
                    "source": policy.source,
                }
            )
    return rows

"""The order of the steps, with extra steps."""

from __future__ import annotations

import pytest

from flask_genesys_auth.chain.contact_centers import DisabledStep, order_steps
from flask_genesys_auth.chain.protocols import Step
from flask_genesys_auth.errors import ConfigurationError
from tests.chain.scripted import (
    ScriptedStep,
    nothing,
)


class Early(ScriptedStep):
    before = "salesforce"


def flow() -> list[Step]:
    return [
        DisabledStep(name) for name in ("saml", "web_services", "login_session", "salesforce", "configuration_server")
    ]


def test_extra_steps_are_placed_in_the_flow() -> None:
    extra: list[Step] = [ScriptedStep("api_key", nothing), Early("ip", nothing), ScriptedStep("mtls", nothing)]
    assert [step.name for step in order_steps(flow(), extra)] == [
        "ip",
        "salesforce",
        "configuration_server",
        "web_services",
        "api_key",
        "mtls",
        "login_session",
        "saml",
    ]


def test_extra_step_needs_unique_name_and_known_place() -> None:
    assert order_steps(flow(), [ScriptedStep("mine", nothing)])
    with pytest.raises(ConfigurationError, match="a name of its own"):
        order_steps(flow(), [ScriptedStep("saml", nothing)])
    lost = Early("lost", nothing)
    lost.before = "oracle"
    with pytest.raises(ConfigurationError, match="'oracle'"):
        order_steps(flow(), [lost])

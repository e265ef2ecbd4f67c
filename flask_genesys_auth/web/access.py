"""Who may reach an endpoint: the decorators that mark views, classes and blueprints, and the check itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flask import Blueprint, Flask

from ..errors import ConfigurationError
from . import refusals
from .hooks import decide
from .policies import NO_ROLES, Mark, Policy, put_mark, roles_of
from .runtime import runtime

if TYPE_CHECKING:
    from ..chain.outcomes import Decision

T = TypeVar("T", bound="Callable[..., Any] | Blueprint")


def unprotected(target: T) -> T:
    """Let every client reach this view, view class or blueprint (nested ones included, unless they say otherwise).

    A class that is made from such a view class is not unprotected by that; roles and protection are inherited.

    :returns: the very same object, so that it stands in any order around ``@app.route``.
    :raises ConfigurationError: if the same object is marked protected.
    """
    put_mark(target, Mark(protected=False))
    return target


def protected(target: T) -> T:
    """Let only authenticated requests reach this view, view class or blueprint; also named ``login_required``.

    The object is marked, which is what counts where it stands above ``@app.route``. What is returned for a view
    also checks when it is called, so that a wrapper that hides the mark does not open it.

    :raises ConfigurationError: if the same object is marked unprotected.
    """
    return _require(target, NO_ROLES)


login_required = protected


def roles_required(*roles: str) -> Callable[[T], T]:
    """Let only accounts that have all of these roles reach this view, view class or blueprint.

    :param roles: such as ``"ROLE_SUPERVISOR"``; a mark nearer to the view adds its own.
    :raises ConfigurationError: without a role, or if the same object is marked unprotected.
    """
    if not roles or not all(role and isinstance(role, str) for role in roles):
        raise ConfigurationError("roles_required() takes the names of roles: @roles_required('ROLE_SUPERVISOR')")

    def decorate(target: T) -> T:
        return _require(target, frozenset(roles))

    return decorate


def _require(target: T, roles: frozenset[str]) -> T:
    put_mark(target, Mark(protected=True, roles=roles | roles_of(target)))
    if isinstance(target, (Blueprint, type)):
        return target
    return cast("T", _checking(cast("Callable[..., Any]", target), roles))


def _checking(view: Callable[..., Any], roles: frozenset[str]) -> Callable[..., Any]:
    """Return the view with the same check inside it; a coroutine function stays one (Flask asks for that)."""
    if inspect.iscoroutinefunction(view):

        @functools.wraps(view)
        async def checked_async(*args: Any, **kwargs: Any) -> Any:
            enforce(roles)
            return await view(*args, **kwargs)

        return checked_async

    @functools.wraps(view)
    def checked(*args: Any, **kwargs: Any) -> Any:
        enforce(roles)
        return view(*args, **kwargs)

    return checked


def enforce(roles: frozenset[str] = NO_ROLES) -> Decision:
    """Refuse the current request unless its user is authenticated and has all of these roles.

    :returns: the decision that let it through.
    :raises Refusal: one of the refusals, which is also the answer.
    """
    decision = decide()
    if decision.user is None or not roles <= decision.roles:
        raise refusals.refusal(decision)
    return decision


def policy_of(app: Flask, endpoint: str, method: str = "GET") -> Policy:
    """Return the policy of an endpoint.

    :raises KeyError: if the application has no such endpoint.
    """
    return runtime(app).policies[endpoint, method]

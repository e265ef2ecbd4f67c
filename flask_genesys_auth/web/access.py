"""Access to endpoints: the decorators for views, classes and blueprints, and the check itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from flask import Blueprint, Flask

from ..errors import ConfigurationError
from . import refusals
from .hooks import decide
from .policies import NO_ROLES, Policy, put_mark
from .runtime import runtime

T = TypeVar("T", bound="Callable[..., Any] | Blueprint")


def unprotected(target: T) -> T:
    """Allow unauthenticated access to this view, view class or blueprint (and nested ones without marks).

    Subclasses of an unprotected view class are not unprotected; roles and protection are inherited.

    :returns: the same object: the decorator works above and below ``@app.route``.
    :raises ConfigurationError: if the same object is marked protected.
    """
    put_mark(target, protected=False)
    return target


def protected(target: T) -> T:
    """Require authentication for this view, view class or blueprint; also named ``login_required``.

    The object itself is marked, so that the decorator also works above ``@app.route``. The returned view checks
    again when it is called, so that a wrapper that hides the mark does not disable the protection.

    :raises ConfigurationError: if the same object is marked unprotected.
    """
    return _require(target, NO_ROLES)


login_required = protected


def roles_required(*roles: str) -> Callable[[T], T]:
    """Require all of these roles for this view, view class or blueprint.

    :param roles: such as ``"ROLE_SUPERVISOR"``; a mark nearer to the view adds its own roles.
    :raises ConfigurationError: without a role, or if the same object is marked unprotected.
    """
    if not roles or not all(role and isinstance(role, str) for role in roles):
        raise ConfigurationError("roles_required() takes the names of roles: @roles_required('ROLE_SUPERVISOR')")

    def decorate(target: T) -> T:
        return _require(target, frozenset(roles))

    return decorate


def _require(target: T, roles: frozenset[str]) -> T:
    put_mark(target, protected=True, roles=roles)
    if isinstance(target, (Blueprint, type)):
        return target
    return cast("T", _checking(cast("Callable[..., Any]", target), roles))


def _checking(view: Callable[..., Any], roles: frozenset[str]) -> Callable[..., Any]:
    """Return the view with the check inside it; a coroutine function remains one, as Flask requires."""
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


def enforce(roles: frozenset[str] = NO_ROLES) -> None:
    """Refuse the current request unless its user is authenticated and has all of these roles.

    :raises Refusal: the refusal, which is also the response.
    """
    decision = decide()
    if decision.user is None or not roles <= decision.roles:
        raise refusals.refusal(decision)


def policy_of(app: Flask, endpoint: str, method: str = "GET") -> Policy:
    """Return the policy of an endpoint.

    :raises KeyError: if the application has no such endpoint.
    """
    return runtime(app).policies[endpoint, method]

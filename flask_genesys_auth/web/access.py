"""Who may reach an endpoint: marks on views, classes and blueprints, and the policy they add up to."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flask import Blueprint, Flask
from flask.views import View

from ..errors import ConfigurationError
from . import login, refusals
from .runtime import runtime

if TYPE_CHECKING:
    from ..chain.outcomes import Decision

_MARK = "__genesys_access__"
_NO_ROLES: frozenset[str] = frozenset()
T = TypeVar("T", bound="Callable[..., Any] | Blueprint")


@dataclass(frozen=True, slots=True)
class Policy:
    """What an endpoint asks for.

    :param roles: all of them are required.
    :param source: what said so: ``view``, ``blueprint NAME``, ``configuration``, ``static`` or ``default``.
    """

    protected: bool
    roles: frozenset[str] = _NO_ROLES
    source: str = "default"

    def __str__(self) -> str:
        if not self.protected:
            return "unprotected"
        return "protected" + (f" ({', '.join(sorted(self.roles))})" if self.roles else "")


@dataclass(frozen=True, slots=True)
class _Mark:
    protected: bool
    roles: frozenset[str] = _NO_ROLES


def unprotected(target: T) -> T:
    """Let everybody reach this view, view class or blueprint (nested ones included, unless they say otherwise).

    A class that is made from such a view class is not unprotected by that; roles and protection are inherited.

    :returns: the very same object, so that it stands in any order around ``@app.route``.
    :raises ConfigurationError: if the same object is marked protected.
    """
    _put_mark(target, _Mark(protected=False))
    return target


def protected(target: T) -> T:
    """Let only authenticated requests reach this view, view class or blueprint; also named ``login_required``.

    The object is marked, which is what counts where it stands above ``@app.route``. What is returned for a view
    also checks when it is called, so that a wrapper that hides the mark does not open it.

    :raises ConfigurationError: if the same object is marked unprotected.
    """
    return _require(target, _NO_ROLES)


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
    _put_mark(target, _Mark(protected=True, roles=roles | _roles_of(target)))
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


def enforce(roles: frozenset[str] = _NO_ROLES) -> Decision:
    """Refuse the current request unless somebody is authenticated and has all of these roles.

    :returns: the decision that let it through.
    :raises Refusal: one of the refusals, which is also the answer.
    """
    decision = login.decide()
    if decision.user is None or not roles <= decision.roles:
        raise refusal(decision)
    return decision


def refusal(decision: Decision) -> refusals.Refusal:
    """Return how a request is refused that is anonymous, or whose user lacks a role."""
    return refusals.for_anonymous(decision) if decision.user is None else refusals.RoleRequired(decision)


def _mark_of(target: object) -> _Mark | None:
    return cast("_Mark | None", getattr(target, _MARK, None))


def _own_mark(target: object) -> _Mark | None:
    return cast("_Mark | None", vars(target).get(_MARK) if isinstance(target, type) else _mark_of(target))


def _roles_of(target: object) -> frozenset[str]:
    mark = _mark_of(target)
    return mark.roles if mark else _NO_ROLES


def _put_mark(target: object, mark: _Mark) -> None:
    is_view = issubclass(target, View) if isinstance(target, type) else callable(target)
    if not is_view and not isinstance(target, Blueprint):
        raise ConfigurationError(f"{target!r} is neither a view, nor a view class, nor a blueprint")
    former = _own_mark(target)
    if former is not None and former.protected is not mark.protected:
        name = getattr(target, "__qualname__", getattr(target, "name", repr(target)))
        raise ConfigurationError(f"{name} is marked both protected and unprotected: keep one of the two")
    try:
        setattr(target, _MARK, mark)
    except (AttributeError, TypeError) as error:
        raise ConfigurationError(f"{target!r} cannot be marked: mark views, view classes and blueprints") from error


class PolicyTable(dict[tuple[str, str], Policy]):
    """The policy of each endpoint and method, worked out at its first request (views are registered after init_app)."""

    def __init__(self, app: Flask) -> None:
        super().__init__()
        self._app = app

    def __missing__(self, key: tuple[str, str]) -> Policy:
        policy = self[key] = _work_out(self._app, *key)
        return policy


def policy_of(app: Flask, endpoint: str, method: str = "GET") -> Policy:
    """Return what an endpoint asks for.

    :raises KeyError: if the application has no such endpoint.
    """
    return runtime(app).policies[endpoint, method]


def _work_out(app: Flask, endpoint: str, method: str) -> Policy:
    """Go from the nearest mark outwards: the first says whether it is protected, the others add their roles."""
    view = app.view_functions[endpoint]
    settings = runtime(app).settings
    roles: set[str] = set()
    source = ""
    for found_in, mark in _marks(app, view, endpoint, method):
        if not mark.protected:
            if source:
                break
            return Policy(protected=False, source=found_in)
        source = source or found_in
        roles |= mark.roles
    if source:
        return Policy(protected=True, roles=frozenset(roles), source=source)
    if endpoint in settings.unprotected_endpoints:
        return Policy(protected=False, source="configuration")
    if _is_static(app, endpoint):
        return Policy(protected=False, source="static")
    return Policy(protected=settings.protect_by_default)


def _marks(app: Flask, view: Any, endpoint: str, method: str) -> Iterator[tuple[str, _Mark]]:
    view_class = getattr(view, "view_class", None)
    handler = getattr(view_class, method.lower(), None) if view_class else None
    if method == "HEAD" and view_class and handler is None:
        handler = getattr(view_class, "get", None)
    candidates: list[tuple[str, object]] = [("view", handler), ("view", view), ("view", view_class)]
    blueprint = endpoint.rpartition(".")[0]
    while blueprint:
        candidates.append((f"blueprint {blueprint}", app.blueprints.get(blueprint)))
        blueprint = blueprint.rpartition(".")[0]
    for found_in, candidate in candidates:
        mark = _class_mark(candidate) if isinstance(candidate, type) else _mark_of(candidate)
        if mark is not None:
            yield found_in, mark


def _class_mark(view_class: type) -> _Mark | None:
    """Return a view class's own mark, else what a class it is made from asks for.

    To be unprotected is not inherited: whoever adds methods to such a class has to say it again.
    """
    for one in view_class.__mro__:
        mark = _own_mark(one)
        if mark is not None and (mark.protected or one is view_class):
            return mark
    return None


def unknown_endpoints(app: Flask) -> Iterator[str]:
    """Find names in the configuration that are no endpoint of the application; a sentence for each."""
    settings = runtime(app).settings
    if settings.login_view and settings.login_view not in app.view_functions:
        yield f"login_view: the application has no endpoint {settings.login_view!r}; nobody is sent there"
    for name in sorted(settings.unprotected_endpoints - app.view_functions.keys()):
        yield f"unprotected_endpoints: the application has no endpoint {name!r}"


def _is_static(app: Flask, endpoint: str) -> bool:
    """Tell whether this is the route that Flask itself made for a static folder."""
    blueprint, _, name = endpoint.rpartition(".")
    if name != "static":
        return False
    scaffold = app.blueprints.get(blueprint) if blueprint else app
    return scaffold is not None and scaffold.has_static_folder

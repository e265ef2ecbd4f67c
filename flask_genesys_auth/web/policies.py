"""Policies of endpoints, computed from marks on views, classes and blueprints and from the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from flask import Blueprint, Flask
from flask.views import View

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..config.settings import Settings

_MARK = "__genesys_access__"
NO_ROLES: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of an endpoint.

    :param roles: the user needs all of them.
    :param source: the origin of the policy: ``view``, ``blueprint NAME``, ``configuration``, ``static`` or ``default``.
    """

    protected: bool
    roles: frozenset[str] = NO_ROLES
    source: str = "default"

    def __str__(self) -> str:
        if not self.protected:
            return "unprotected"
        return "protected" + (f" ({', '.join(sorted(self.roles))})" if self.roles else "")


def _mark_of(target: object) -> Policy | None:
    return cast("Policy | None", getattr(target, _MARK, None))


def _own_mark(target: object) -> Policy | None:
    return cast("Policy | None", vars(target).get(_MARK) if isinstance(target, type) else _mark_of(target))


def put_mark(target: object, *, protected: bool, roles: frozenset[str] = NO_ROLES) -> None:
    """Mark a view, a view class or a blueprint; roles add to those of a former mark.

    :raises ConfigurationError: if it is another kind of object, or has the opposite mark.
    """
    is_view = issubclass(target, View) if isinstance(target, type) else callable(target)
    if not is_view and not isinstance(target, Blueprint):
        raise ConfigurationError(f"{target!r} is not a view, a view class or a blueprint")
    former = _own_mark(target)
    if former is not None and former.protected is not protected:
        name = getattr(target, "__qualname__", getattr(target, "name", repr(target)))
        raise ConfigurationError(f"{name} is marked both protected and unprotected; remove one of the two")
    inherited = _mark_of(target)
    mark = Policy(protected=protected, roles=roles | (inherited.roles if inherited and protected else NO_ROLES))
    try:
        setattr(target, _MARK, mark)
    except (AttributeError, TypeError) as error:
        raise ConfigurationError(f"{target!r} cannot be marked; mark views, view classes and blueprints") from error


class PolicyTable(dict[tuple[str, str], Policy]):
    """The policy of each endpoint and method, computed at its first request: views are registered after init_app."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        super().__init__()
        self._app = app
        self._settings = settings

    def __missing__(self, key: tuple[str, str]) -> Policy:
        policy = self[key] = _compute(self._app, self._settings, *key)
        return policy


def _compute(app: Flask, settings: Settings, endpoint: str, method: str) -> Policy:
    """Combine the marks from the view outwards: the first decides on protection, the others add their roles."""
    view = app.view_functions[endpoint]
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


def _marks(app: Flask, view: Any, endpoint: str, method: str) -> Iterator[tuple[str, Policy]]:
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


def _class_mark(view_class: type) -> Policy | None:
    """Return the mark of a view class, else a protecting mark of a base class.

    ``unprotected`` is not inherited, because a subclass may add methods.
    """
    for one in view_class.__mro__:
        mark = _own_mark(one)
        if mark is not None and (mark.protected or one is view_class):
            return mark
    return None


def unknown_endpoints(app: Flask, settings: Settings) -> Iterator[str]:
    """Yield a sentence for each configured name that is not an endpoint of the application."""
    if settings.login_view and settings.login_view not in app.view_functions:
        yield f"login_view: the application has no endpoint {settings.login_view!r}; users are not redirected"
    for name in sorted(settings.unprotected_endpoints - app.view_functions.keys()):
        yield f"unprotected_endpoints: the application has no endpoint {name!r}"


def _is_static(app: Flask, endpoint: str) -> bool:
    """Return whether Flask itself registered this endpoint for a static folder."""
    blueprint, _, name = endpoint.rpartition(".")
    if name != "static":
        return False
    scaffold = app.blueprints.get(blueprint) if blueprint else app
    return scaffold is not None and scaffold.has_static_folder

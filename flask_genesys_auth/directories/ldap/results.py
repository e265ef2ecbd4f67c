"""What an LDAP server's results mean: who is refused and why, what says nothing of the person, what is an outage.

Codes are those of RFC 4511, appendix A.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...chain.outcomes import Reason, Rejected, Unavailable
from ...upstream import printable

SUCCESS = 0
SIZE_LIMIT_EXCEEDED = 4
NO_SUCH_OBJECT = 32
INVALID_CREDENTIALS = 49
UNWILLING = 53

PASSWORD_POLICY = "1.3.6.1.4.1.42.2.27.8.5.1"  # noqa: S105 - an object identifier
"""The control by which a server tells why (draft-behera-ldap-password-policy-10, 6)."""

_CONSTRAINT_VIOLATION = 19
_TIMES_UP = frozenset({3, 11, 51, UNWILLING})
"""Not now, or not for this question: timeLimitExceeded, adminLimitExceeded, busy, unwillingToPerform."""
_BROKEN = frozenset({1, 2, 52, 80})
"""The server is not well: operationsError, protocolError, unavailable, other."""
_NOBODY = frozenset({NO_SUCH_OBJECT, 48})
"""No such entry, or one without a password (inappropriateAuthentication)."""
_ADVICE: Mapping[int, str] = {
    7: "it takes no passwords here: look at its configuration",
    8: "it wants TLS: use ldaps:// or start_tls = true",
    10: "it refers to another server, and referrals are not followed: name that one in ldap.servers",
    13: "it wants TLS: use ldaps:// or start_tls = true",
    34: "it takes this for no distinguished name: look at ldap.user_dn and ldap.base",
    NO_SUCH_OBJECT: "there is no such entry: look at ldap.base and ldap.group_base, and at what bind_dn may read",
    50: "bind_dn may not do this: look at the directory's access rules",
}

# Active Directory's sub-codes of error 49, which are Windows' error codes in hexadecimal (MS-ERREF 2.2).
_SUB_CODE = re.compile(r"\bdata ([0-9a-f]{1,8})\b", re.IGNORECASE)
_SUB_CODES: Mapping[str, Reason] = {
    "525": Reason.BAD_CREDENTIALS,
    "52e": Reason.BAD_CREDENTIALS,
    "52f": Reason.LOGON_RESTRICTED,
    "530": Reason.LOGON_RESTRICTED,
    "531": Reason.LOGON_RESTRICTED,
    "532": Reason.PASSWORD_EXPIRED,
    "533": Reason.DISABLED_IN_DIRECTORY,
    "569": Reason.LOGON_RESTRICTED,
    "701": Reason.EXPIRED_IN_DIRECTORY,
    "773": Reason.PASSWORD_MUST_CHANGE,
    "775": Reason.LOCKED_IN_DIRECTORY,
}
_NO_LOGON_SERVERS = "51f"

# What 389 Directory Server says, which has no code of its own for it.
_INACTIVATED = "account inactivated"
_RETRY_LIMIT = "exceed password retry limit"

_POLICY_ERRORS: Mapping[int, Reason] = {
    0: Reason.PASSWORD_EXPIRED,
    1: Reason.LOCKED_IN_DIRECTORY,
    2: Reason.PASSWORD_MUST_CHANGE,
}


class NoAnswer(Exception):
    """Whoever was asked has not answered the question; it is no ``Rejected`` ever.

    :param outcome: what the step is to say.
    :param well: what that tells of the server; ``None``: nothing.
    :param elsewhere: another server may answer.
    :param code: the result's, if there was one.
    """

    def __init__(
        self, outcome: Unavailable, *, well: bool | None, elsewhere: bool = True, code: int | None = None
    ) -> None:
        super().__init__(outcome.detail)
        self.code = code
        self.outcome = outcome
        self.well = well
        self.elsewhere = elsewhere


@dataclass(frozen=True, slots=True)
class Result:
    """The end of an operation.

    :param message: the server's own words for people.
    :param policy: the value of the control :data:`PASSWORD_POLICY`, or empty.
    """

    code: int
    name: str = ""
    message: str = ""
    policy: bytes = b""

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Result:
        """Read what ldap3 makes of it."""
        control = result.get("controls", {}).get(PASSWORD_POLICY)
        value = control["value"] if control else None
        return cls(int(result["result"]), str(result["description"]), str(result["message"]), bytes(value or b""))

    def __str__(self) -> str:
        said = f": {printable(self.message)}" if self.message else ""
        return f"result {self.code} ({printable(self.name, 40)}){said}"


def of_user_bind(result: Result) -> Rejected | None:
    """Return why a person is refused, or ``None``: the password is good.

    :raises NoAnswer: where the result says nothing of the person.
    """
    policy = policy_error(result.policy)
    if result.code == SUCCESS:
        return None if policy is None else Rejected(policy, "the password policy's control says so")
    if result.code in _NOBODY:
        return Rejected(Reason.BAD_CREDENTIALS, str(result))
    if result.code == INVALID_CREDENTIALS:
        return _invalid(result, policy)
    said = result.message.lower()
    if result.code == UNWILLING and said.startswith(_INACTIVATED):
        return Rejected(Reason.DISABLED_IN_DIRECTORY, str(result))
    if result.code == _CONSTRAINT_VIOLATION and said.startswith(_RETRY_LIMIT):
        return Rejected(Reason.LOCKED_IN_DIRECTORY, str(result))
    raise no_answer(result)


def no_answer(result: Result, *, hint: str = "") -> NoAnswer:
    """Return what a result means that answers nothing.

    :param hint: what to look at, where the code does not tell.
    """
    advice = _ADVICE.get(result.code, hint)
    detail = f"{result}; {advice}" if advice else str(result)
    well = False if result.code in _BROKEN else None if result.code in _TIMES_UP else True
    return NoAnswer(Unavailable(Reason.SERVER_ERROR, detail=detail, uncounted=True), well=well, code=result.code)


def refused_service(result: Result) -> NoAnswer:
    """Return what it means that our own account is refused: nobody can log in, and nobody's password is wrong.

    It counts as an outage, or everybody who logs in would help to lock that account.
    """
    policy = policy_error(result.policy)
    said = str(result) if policy is None else str(policy)
    advice = _ADVICE.get(result.code, "look at ldap.bind_dn and ldap.bind_password")
    detail = f"bind_dn is refused, {said}: {advice}"
    outage = Unavailable(Reason.SERVER_ERROR, detail=detail, uncounted=True)
    return NoAnswer(outage, well=False, elsewhere=result.code not in {SUCCESS, INVALID_CREDENTIALS})


def policy_error(value: bytes) -> Reason | None:
    """Return what the password policy's control has against a login; it is ``None`` for any other error, or a warning.

    The value is ``SEQUENCE { warning [0] CHOICE OPTIONAL, error [1] ENUMERATED OPTIONAL }``.
    """
    if len(value) < 2 or value[0] != 0x30 or value[1] != len(value) - 2:
        return None
    place = 2
    while place + 1 < len(value):
        tag, length = value[place], value[place + 1]
        content = value[place + 2 : place + 2 + length]
        if tag == 0x81 and length == 1 and content:
            return _POLICY_ERRORS.get(content[0])
        place += 2 + length
    return None


def _invalid(result: Result, policy: Reason | None) -> Rejected:
    if policy is not None:
        return Rejected(policy, "the password policy's control says so")
    found = _SUB_CODE.search(result.message)
    code = found[1].lower() if found else ""
    if code == _NO_LOGON_SERVERS:
        raise NoAnswer(
            Unavailable(Reason.SERVER_ERROR, detail=f"{result}: no domain controller answers it", uncounted=True),
            well=False,
        )
    detail = f"sub-code {code}" if code else "result 49"
    return Rejected(_SUB_CODES.get(code, Reason.BAD_CREDENTIALS), detail)

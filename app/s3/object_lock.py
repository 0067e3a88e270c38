"""Object lock: retention and legal holds of versions, and what a bucket gives its objects by default (S3 user guide,
"Locking objects with Object Lock", and the API reference)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import NoReturn

from starlette.responses import Response

from app.errors import NotLockable
from app.models.buckets import Bucket
from app.models.object_lock import YEAR, DefaultRetention
from app.s3.authorize import Authorizer
from app.s3.checksums import Declared
from app.s3.configuration import MAX_DOCUMENT, require_settings
from app.s3.errors import S3Error
from app.s3.parts import S3Parts
from app.s3.request import Handler, S3Request, answer, empty
from app.s3.versions import find_object
from app.s3.xml import Element, Value, parse, parse_timestamp, timestamp
from app.types import UNLOCKED, Lock, LockMode, Retention

PREFIX = "x-amz-object-lock-"
MODE, UNTIL, HOLD = (PREFIX + name for name in ("mode", "retain-until-date", "legal-hold"))
ENABLED = "x-amz-bucket-object-lock-enabled"
BYPASS = "x-amz-bypass-governance-retention"
BYPASS_ACTION = "s3:BypassGovernanceRetention"

_MODES: Mapping[str, LockMode] = {"GOVERNANCE": "GOVERNANCE", "COMPLIANCE": "COMPLIANCE"}
_HOLDS: Mapping[str, bool] = {"ON": True, "OFF": False}

_MAX_YEARS = 100
_MAX_PERIOD: Mapping[str, int] = {"Days": _MAX_YEARS * YEAR, "Years": _MAX_YEARS}
"""The longest default retention."""

_RIGHTS: Mapping[str, str] = {MODE: "Retention", UNTIL: "Retention", HOLD: "LegalHold"}
"""What the actions are called that set and tell of what is in these headers."""


# Headers


def flag(headers: Mapping[str, str], name: str) -> bool:
    """A truth value; false where there is none. Raises S3Error InvalidArgument."""
    text = headers.get(name, "false")
    if text.lower() not in ("true", "false"):
        _invalid(name, text, f"The header {name} must be true or false.")
    return text.lower() == "true"


def lock_from(headers: Mapping[str, str]) -> Lock:
    """The lock that an object is to have. Raises S3Error InvalidArgument."""
    mode, until, hold = (headers.get(name) for name in (MODE, UNTIL, HOLD))
    if hold is not None and hold not in _HOLDS:
        _invalid(HOLD, hold, "Legal Hold must be either of 'ON' or 'OFF'")
    held = None if hold is None else _HOLDS[hold]
    if mode is None and until is None:
        return Lock(hold=held)
    if mode is None or until is None:
        message = f"{UNTIL} and {MODE} must both be supplied"
        raise S3Error("InvalidArgument", message, ArgumentName=MODE if mode is None else UNTIL)
    if mode not in _MODES:
        _invalid(MODE, mode, f"Unknown wormMode directive: it must be one of {', '.join(_MODES)}.")
    try:
        return Lock(Retention(_MODES[mode], parse_timestamp(until)), held)
    except ValueError:
        _invalid(UNTIL, until, "The retain until date must be provided in ISO 8601 format")


async def allow_lock(parts: S3Parts, request: S3Request, lock: Lock) -> None:
    """See that the request may put an object that is locked like this. Raises S3Error AccessDenied, and
    InvalidArgument for a date that is over; NotLockable."""
    if lock == UNLOCKED:
        return
    for right in sorted({right for name, right in _RIGHTS.items() if name in request.headers}):
        await parts.authorizer.on_object(request, f"s3:PutObject{right}", request.bucket, request.key)
    if not request.bucket.lockable:
        raise NotLockable
    if lock.retention:
        await _require_future(parts, lock.retention, UNTIL)


def require_digest(bucket: Bucket, lock: Lock, told: Declared, what: str) -> None:
    """See that the bytes of an object that is to be locked come with a digest. Raises S3Error InvalidRequest."""
    if (lock == UNLOCKED and not bucket.retention) or told.md5 is not None or told.algorithm is not None:
        return
    raise S3Error(
        "InvalidRequest",
        f"Content-MD5 OR x-amz-checksum- HTTP header is required for {what} requests with Object Lock parameters",
    )


def asks_for_bypass(request: S3Request) -> bool:
    """Whether a deletion is to overlook GOVERNANCE, which takes the right to `BYPASS_ACTION`. Raises S3Error
    InvalidArgument."""
    if BYPASS in request.headers and not request.bucket.lockable:
        message = f"{BYPASS} is only applicable to Object Lock enabled buckets."
        _invalid(BYPASS, request.headers[BYPASS], message)
    return flag(request.headers, BYPASS)


async def lock_headers(authorizer: Authorizer, request: S3Request, lock: Lock) -> dict[str, str]:
    """What an answer tells of a lock: what its caller may know."""
    told: dict[str, str] = {}
    if lock.retention:
        told |= {MODE: lock.retention.mode, UNTIL: timestamp(lock.retention.until)}
    if lock.hold is not None:
        told[HOLD] = _status(hold=lock.hold)
    known: set[str] = set()
    for right in {_RIGHTS[name] for name in told}:
        with suppress(S3Error):
            action = f"s3:GetObject{right}"
            await authorizer.on_object(request, action, request.bucket, request.key, request.version)
            known.add(right)
    return {name: text for name, text in told.items() if _RIGHTS[name] in known}


# Operations


class ObjectLock:
    def __init__(self, parts: S3Parts) -> None:
        self._parts = parts
        self._objects = parts.objects

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetObjectLockConfiguration": self.configuration,
            "PutObjectLockConfiguration": self.set_configuration,
            "GetObjectRetention": self.retention,
            "PutObjectRetention": self.set_retention,
            "GetObjectLegalHold": self.hold,
            "PutObjectLegalHold": self.set_hold,
        }

    async def configuration(self, request: S3Request) -> Response:
        if not request.bucket.lockable:
            raise S3Error(
                "ObjectLockConfigurationNotFoundError",
                "Object Lock configuration does not exist for this bucket",
                BucketName=request.bucket_name,
            )
        default = request.bucket.retention
        content: dict[str, Value] = {"ObjectLockEnabled": "Enabled"}
        if default:
            period = {"Days": default.days or None, "Years": default.years or None}
            content["Rule"] = {"DefaultRetention": {"Mode": default.mode, **period}}
        return answer("ObjectLockConfiguration", content)

    async def set_configuration(self, request: S3Request) -> Response:
        require_settings(request)
        wanted = parse(await request.body.document(MAX_DOCUMENT), "ObjectLockConfiguration", MAX_DOCUMENT)
        wanted.only("ObjectLockEnabled", "Rule")
        wanted.choice("ObjectLockEnabled", ("Enabled",))
        rule = wanted.maybe("Rule")
        await self._parts.buckets.set_lock(request.bucket.name, _default_retention(rule) if rule else None)
        return empty()

    async def retention(self, request: S3Request) -> Response:
        retention = (await self._lock(request)).retention
        if retention is None:
            raise _none()
        return answer("Retention", {"Mode": retention.mode, "RetainUntilDate": retention.until})

    async def set_retention(self, request: S3Request) -> Response:
        wanted = _retention(parse(await request.body.document(MAX_DOCUMENT), "Retention", MAX_DOCUMENT))
        _require_lock(request)
        if wanted:
            await _require_future(self._parts, wanted, "RetainUntilDate")
        bypass = flag(request.headers, BYPASS)
        if bypass:
            await self._parts.authorizer.on_object(request, BYPASS_ACTION, request.bucket, request.key)
        version, _ = await find_object(self._objects, request)
        await self._objects.set_retention(version, wanted, bypass=bypass)
        return empty()

    async def hold(self, request: S3Request) -> Response:
        hold = (await self._lock(request)).hold
        if hold is None:
            raise _none()
        return answer("LegalHold", {"Status": _status(hold=hold)})

    async def set_hold(self, request: S3Request) -> Response:
        document = parse(await request.body.document(MAX_DOCUMENT), "LegalHold", MAX_DOCUMENT)
        document.only("Status")
        hold = _HOLDS[document.choice("Status", tuple(_HOLDS))]
        _require_lock(request)
        version, _ = await find_object(self._objects, request)
        await self._objects.set_hold(version, hold=hold)
        return empty()

    async def _lock(self, request: S3Request) -> Lock:
        _require_lock(request)
        _, file = await find_object(self._objects, request)
        return file.entry.lock if file.entry else UNLOCKED


def _default_retention(rule: Element) -> DefaultRetention:
    rule.only("DefaultRetention")
    default = rule.one("DefaultRetention")
    _refuse_event_holds(default)
    default.only("Mode", *_MAX_PERIOD)
    mode = _MODES[default.choice("Mode", tuple(_MODES))]
    periods = {unit: default.integer(unit) for unit in _MAX_PERIOD if default.maybe(unit)}
    if len(periods) != 1:
        raise S3Error("MalformedXML", "A DefaultRetention needs either Days or Years, and not both.")
    ((unit, period),) = periods.items()
    if period <= 0:
        _invalid(unit, str(period), "Default retention period must be a positive integer value.")
    if period > _MAX_PERIOD[unit]:
        _invalid(unit, str(period), f"Default retention period too large: it may be {_MAX_PERIOD[unit]} {unit}.")
    return DefaultRetention(mode, **{unit.lower(): period})


def _retention(element: Element) -> Retention | None:
    """None for an empty element, which ends the retention that there is."""
    _refuse_event_holds(element)
    element.only("Mode", "RetainUntilDate")
    if not element.children and not element.content.strip():
        return None
    return Retention(_MODES[element.choice("Mode", tuple(_MODES))], element.moment("RetainUntilDate"))


def _refuse_event_holds(element: Element) -> None:
    if any("EventHold" in child.name for child in element.children):
        raise S3Error("NotImplemented", "Event holds are not implemented.")


def _require_lock(request: S3Request) -> None:
    if not request.bucket.lockable:
        raise NotLockable


async def _require_future(parts: S3Parts, retention: Retention, name: str) -> None:
    if retention.until <= await parts.objects.now():
        _invalid(name, timestamp(retention.until), "The retain until date must be in the future!")


def _status(*, hold: bool) -> str:
    return "ON" if hold else "OFF"


def _none() -> S3Error:
    message = "The specified object does not have a ObjectLock configuration"
    return S3Error("NoSuchObjectLockConfiguration", message)


def _invalid(name: str, value: str, message: str) -> NoReturn:
    raise S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=value[:100])

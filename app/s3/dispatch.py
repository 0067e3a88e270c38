"""Which operation a request means, and who handles it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence, Set
from functools import lru_cache
from typing import Generic, TypeVar

from app.s3.errors import S3Error
from app.s3.operations import OPERATIONS, Level, Operation

Handler = TypeVar("Handler")


def _specificity(operation: Operation) -> int:
    return len(operation.query) + len(operation.headers)


_AT: Mapping[Level, list[Operation]] = {
    level: sorted((one for one in OPERATIONS.values() if one.level == level), key=_specificity, reverse=True)
    for level in ("service", "bucket", "object")
}
"""The operations of a level, those that ask for most first."""

_RESOURCES: Mapping[Level, frozenset[str]] = {
    level: frozenset(name for one in operations for name in one.resource) for level, operations in _AT.items()
}
"""What has a meaning in the query string of a level, so that it may not be overlooked: DELETE with an `acl` that
nobody can delete does not mean the bucket."""


class Dispatch(Generic[Handler]):
    """The operations that are supported: those with a handler, by the operation's name."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        if unknown := sorted(handlers.keys() - OPERATIONS.keys()):
            raise ValueError(f"These are no operations of the S3 API: {', '.join(unknown)}.")
        self._handlers = handlers

    def find(
        self, method: str, bucket: str, key: str, query: Mapping[str, list[str]], headers: Container[str]
    ) -> tuple[Operation, Handler | None]:
        """The operation, and its handler where it is supported; see `find`. Without one, answer `not_implemented`."""
        operation = find(method, bucket, key, query, headers)
        return operation, self._handlers.get(operation.name)


def find(method: str, bucket: str, key: str, query: Mapping[str, list[str]], headers: Container[str]) -> Operation:
    """The operation that a request means: the one that asks for most of what is there.

    `bucket` and `key` may be "", `query` has all values by name, `headers` knows lower-case names. Parameters that
    mean nothing at this level are overlooked, as S3 does; a preflight may have those of the request to come.
    Raises S3Error MethodNotAllowed; InvalidArgument for sub-resources that do not go together.
    """
    level: Level = "object" if key else "bucket" if bucket else "service"
    named: frozenset[str] = frozenset(() if method == "OPTIONS" else _RESOURCES[level] & query.keys())
    meant = [one for one in _that_go_with(level, named) if _selects(one, query, headers)]
    for operation in meant:
        if operation.method == method:
            return operation
    raise _wrong_method(method, named or {level}, {one.method for one in meant}) if meant else _conflict(sorted(named))


def not_implemented(operation: Operation) -> S3Error:
    """The answer for an operation without a handler."""
    return S3Error("NotImplemented", f"{operation.name} is an operation that this server does not implement.")


@lru_cache(maxsize=256)
def _that_go_with(level: Level, named: frozenset[str]) -> Sequence[Operation]:
    """The operations of a level that may have all these sub-resources: few of many, the same for most requests."""
    return [one for one in _AT[level] if named <= {*one.resource, *one.also}]


def _selects(operation: Operation, query: Mapping[str, list[str]], headers: Container[str]) -> bool:
    return all(_has(query, term) for term in operation.query) and all(name in headers for name in operation.headers)


def _has(query: Mapping[str, list[str]], term: str) -> bool:
    name, equals, value = term.partition("=")
    return name in query and (not equals or value in query[name])


def _wrong_method(method: str, resource: Set[str], allowed: Set[str]) -> S3Error:
    return S3Error(
        "MethodNotAllowed",
        "The specified method is not allowed against this resource.",
        Method=method,
        ResourceType=", ".join(sorted(resource)).upper(),
    ).with_headers({"allow": ", ".join(sorted(allowed))})


def _conflict(named: list[str]) -> S3Error:
    if len(named) == 1:
        message = f"The query string parameter {named[0]} needs another one that goes with it."
    else:
        message = f"Conflicting query string parameters: {', '.join(named)}"
    return S3Error("InvalidArgument", message, ArgumentName="ResourceType", ArgumentValue=named[0])

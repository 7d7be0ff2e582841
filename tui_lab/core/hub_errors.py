"""Classifies errors of the Hugging Face hub by their types and HTTP status, never by words of their text:
a path or a run id may contain "401" or "gated" as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

HubProblem = Literal["gated", "not_found", "unauthorized", "offline"]

#: Types by name, so that huggingface_hub and its HTTP client need not be imported here.
_GATED = frozenset({"GatedRepoError"})
_NOT_FOUND = frozenset({"RepositoryNotFoundError", "RevisionNotFoundError", "DatasetNotFoundError"})
_OFFLINE = frozenset(
    {"OfflineModeIsEnabled", "LocalEntryNotFoundError", "TransportError", "ConnectError",
     "NetworkError", "ProxyError", "ConnectionError", "ConnectTimeout", "ReadTimeout", "gaierror"}
)  # fmt: skip
UNAUTHORIZED, FORBIDDEN = 401, 403


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it was raised from, innermost last."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__


def classify(error: BaseException) -> HubProblem | None:
    """What the hub's answer means; None for an error that did not come from the hub.

    gated: a licence must be accepted first; not_found: no such repository or revision, or a private one;
    unauthorized: HTTP 401 or 403 otherwise; offline: the hub was not asked, did not answer, or
    the connection broke.
    """
    errors = list(chain(error))
    kinds = [{kind.__name__ for kind in type(each).__mro__} for each in errors]
    if any(names & _GATED for names in kinds):
        return "gated"
    if any(names & _NOT_FOUND for names in kinds):
        return "not_found"
    if any(status_code(each) in (UNAUTHORIZED, FORBIDDEN) for each in errors):
        return "unauthorized"
    if any(names & _OFFLINE for names in kinds):
        return "offline"
    return None


def status_code(error: BaseException) -> int | None:
    """The HTTP status of an error with a response; None for any other."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None

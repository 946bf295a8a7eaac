"""Library statuses as exceptions that a caller can tell apart."""

from __future__ import annotations

from typing import NoReturn

STATUS_NAMES = (
    "SUCCESS",
    "NOT_INITIALIZED",
    "ALLOC_FAILED",
    "INVALID_VALUE",
    "ARCH_MISMATCH",
    "MAPPING_ERROR",
    "EXECUTION_FAILED",
    "INTERNAL_ERROR",
    "MATRIX_TYPE_NOT_SUPPORTED",
    "ZERO_PIVOT",
    "NOT_SUPPORTED",
    "INSUFFICIENT_RESOURCES",
)
"""``cusparseStatus_t`` by number; cuSPARSELt uses the same codes."""

_OUT_OF_MEMORY = {"ALLOC_FAILED"}
_UNSUPPORTED = {"ARCH_MISMATCH", "MATRIX_TYPE_NOT_SUPPORTED", "NOT_SUPPORTED"}
_LIBRARY_ERRORS = {"cuSPARSEError", "cuSPARSELtError", "CuSparseError"}  # with a status
_BINDING_ERRORS = {"FunctionNotFoundError", "NotSupportedError"}  # the library or one of its functions is missing


class VendorError(RuntimeError):
    """A library call failed; the message names the library, the call and the status.

    Attributes:
        status: the status's name, for example ``INVALID_VALUE``, or the binding's own words.
    """

    def __init__(self, message: str, status: str) -> None:
        super().__init__(message)
        self.status = status


class VendorOutOfMemory(VendorError, MemoryError):
    """The library could not get the memory it needs. A ``MemoryError``, so that it counts as out of memory."""


class VendorUnsupported(VendorError):
    """The library says that it does not offer this operation for this case or on this device."""


def translate(error: Exception, library: str, call: str) -> Exception:
    """The exception to raise for ``error``: itself unless a binding raised it for a library status.

    Bindings are told by the names of their exception classes, so that none of them has to be imported here.
    """
    kind = type(error).__name__
    if kind in _BINDING_ERRORS:
        return VendorUnsupported(f"{library} offers no {call} here: {error}", str(error))
    if kind not in _LIBRARY_ERRORS:
        return error
    number = getattr(error, "status", None)
    known = isinstance(number, int) and 0 <= number < len(STATUS_NAMES)
    status = STATUS_NAMES[number] if known and number is not None else str(error)
    status = status.removeprefix("CUSPARSE_STATUS_").partition(" ")[0].rstrip(":") or str(error)
    message = f"{library} {call} failed with status {status}"
    if status in _OUT_OF_MEMORY:
        return VendorOutOfMemory(f"{message}: not enough memory", status)
    if status in _UNSUPPORTED:
        return VendorUnsupported(message, status)
    return VendorError(message, status)


def fail(error: Exception, library: str, call: str) -> NoReturn:
    """Raise ``translate(error, library, call)``, with ``error`` as its cause where it is another exception."""
    found = translate(error, library, call)
    if found is error:
        raise error
    raise found from error

"""What is said where an integration's client is not installed."""

from __future__ import annotations

__all__ = ["missing"]


def missing(integration: str, extra: str, cause: ImportError, needs: str | None = None) -> ImportError:
    """
    Return the error that says what to install, with `cause` as its cause; to be raised where the import failed.

    A client that is installed but cannot be imported is told apart: installing it once more would not help.

    Args:
        integration: The module's name in `resilio.integrations`, or its full name.

        extra: The extra of the distribution that brings the client.

        cause: What importing the client raised.

        needs: Which packages do, in words; None: as the extra is known for, else the extra's own name.
    """
    module = integration if integration.startswith("resilio.") else f"resilio.integrations.{integration}"
    needed = needs or _NEEDS.get(extra, extra)
    text = f"{module} needs {needed}: pip install 'resilio-sdk[{extra}]'"
    if not isinstance(cause, ModuleNotFoundError):
        text = f"{module} needs {needed}, which cannot be imported: {cause}"
    error = ImportError(text, name=cause.name, path=cause.path)
    error.__cause__ = cause
    return error


_NEEDS = {
    "grpc": "grpcio",
    "httpx": "httpx or httpx2",
    "otel": "opentelemetry-api",
    "prometheus": "prometheus-client",
    "valkey": "valkey or redis",
}

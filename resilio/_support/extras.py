"""The error for an integration whose client is not installed."""

from __future__ import annotations

__all__ = ["missing"]


def missing(integration: str, extra: str, cause: ImportError, needs: str | None = None) -> ImportError:
    """
    Return an ImportError that names the extra to install, with `cause` as its cause, for the caller to raise.

    A client that is installed but cannot be imported has another message, because installing it again would not help.

    Args:
        integration: The module's name in `resilio.integrations`, or its full name.

        extra: The extra of the distribution that installs the client.

        cause: The error of importing the client.

        needs: The required packages, in words; None: those of the extra, else the extra's own name.
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
    "postgres": "psycopg",
    "prometheus": "prometheus-client",
    "valkey": "valkey or redis",
}

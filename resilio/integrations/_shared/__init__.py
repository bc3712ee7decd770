"""Shared parts of integrations: a guarded request, its permits, its headers, its errors."""

"""Shared parts of the httpx and httpx2 integrations."""

"""Parts of the integration for MCP: the guarded client, the guarded server, and what differs between versions."""

"""The native layer: see docs/architecture.md."""

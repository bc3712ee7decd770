"""The native layer: see docs/explanation/architecture.md."""

"""The parts of the ASGI and WSGI middleware."""

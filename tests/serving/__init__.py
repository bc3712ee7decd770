"""Requests to ASGI and WSGI apps, in memory and over sockets, for the tests of the middlewares."""

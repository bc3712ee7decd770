"""
Integrations for clients and servers, each in a module of its name.

The library itself imports none of them. If a client is not installed, its module raises an ImportError that names the
extra to install.
"""

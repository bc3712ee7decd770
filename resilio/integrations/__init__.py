"""
The clients and servers that people use, each under guard by one module of its name.

Nothing here is imported by the library itself; a module whose client is not installed says which extra to install.
"""

"""Ambient values of a call: deadline, priority, and the switches of tests."""

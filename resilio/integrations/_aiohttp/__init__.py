"""The parts of the aiohttp integration."""

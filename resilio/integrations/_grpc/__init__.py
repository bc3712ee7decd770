"""The parts of the gRPC integration."""

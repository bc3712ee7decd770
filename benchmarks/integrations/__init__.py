"""What integrations cost over sockets: against the bare client or server, taking turns in one run."""

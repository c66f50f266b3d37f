"""A temporary public link: visitors, passwords, limits, and the gate in front of the server."""

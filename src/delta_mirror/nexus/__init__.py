"""The edge that knows SCRAM Nexus: its messages, and the bus that brings them."""

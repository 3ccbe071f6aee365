"""What every edge that calls a service over HTTP needs, and knows of no service: attempts, addresses, what a failure means."""

"""What the router talks to."""

"""Stand-ins for what costs money. Everything else is real in our tests."""

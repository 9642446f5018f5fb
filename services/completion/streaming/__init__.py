"""How one answer, while it is written, reaches any number of listeners."""

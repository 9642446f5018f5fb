"""Between the contract's messages and the plain values."""

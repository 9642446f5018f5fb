"""Commands of the server side (`up`, `model`), registered with `antiphon` through entry points."""

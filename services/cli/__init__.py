"""Commands of the server side (`up`, `key`, `model`), registered with `antiphon` through entry points."""

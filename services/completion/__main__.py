"""`python -m services.completion`. Exit status as `services.chassis.process` says."""

from __future__ import annotations

import sys

from services.chassis.polling import start

if __name__ == "__main__":
    sys.exit(start("services.completion.main"))

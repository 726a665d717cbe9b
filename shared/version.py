"""Which code is running."""

VERSION = "0.1.0"

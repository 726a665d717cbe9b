"""What each command of `python3 -m infra` does; `infra/arguments.py` says what can be typed."""

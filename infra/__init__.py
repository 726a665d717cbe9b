"""Everything around the functions: migrations, the local stack, the operator's commands. Never deployed."""

"""The pool side: what instances there should be, who has them, and when that changes."""

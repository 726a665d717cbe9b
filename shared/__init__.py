"""What the functions share: one package per side, and the foundations under both."""

"""A stand-in for the agent runtime that answers inside every instance."""

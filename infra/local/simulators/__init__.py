"""Small, stateful, honest stand-ins for the systems we drive: they keep inventories, take their time, and fail on request."""

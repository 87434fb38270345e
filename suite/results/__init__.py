"""Tables of results: what their rows hold, are made of, and depend on."""

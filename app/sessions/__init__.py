"""Open profiles: the supervisor, a session with its states for each profile, and what wakes them."""

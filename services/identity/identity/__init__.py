"""Identity: principals, organizations, API keys, sessions, and the keys that verify them."""

"""What applications import in their own tests: a client, fixtures, an identity provider, emulators."""

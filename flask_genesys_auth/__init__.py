"""The authentication of a Genesys Web Services contact center as a Flask extension."""

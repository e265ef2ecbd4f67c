"""The configuration: what it may say (``schemas``), what it is once read (``values``), and its secrets."""

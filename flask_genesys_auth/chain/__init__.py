"""The flow itself: which contact center, which steps, in which order, and what came of it."""

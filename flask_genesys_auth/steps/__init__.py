"""One file per step of the chain."""

"""The authentication chain: contact centers, steps in their order, and the walk of one request through them."""

"""Who a proven identity is here."""

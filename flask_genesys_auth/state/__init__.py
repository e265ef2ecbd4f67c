"""Where small values with an end are kept."""

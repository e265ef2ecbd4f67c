"""The configuration: the settings and their declarations (``settings``), and how they are read (``build``)."""

"""One module per noun (or verb without one), each with an ``app``."""

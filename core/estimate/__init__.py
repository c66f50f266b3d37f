"""The resource calculator: what training a model takes, and how it knows."""

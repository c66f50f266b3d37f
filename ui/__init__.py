"""The page: one tab a file, each with one build(); no torch in here."""

"""Graphics cards and the rest of the machine, without torch."""

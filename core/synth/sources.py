"""Where rows come from. A source has batch(first) -> [{"number", "row" | "reason", …}], in the order of numbers."""

BATCH = 500


class FromGrammar:
    """Rows of a grammar: number n is the same row whenever it is asked for."""

    def __init__(self, recipe, seed: int, batch: int = BATCH):
        self.recipe, self.seed, self.size = recipe, seed, batch

    def batch(self, first: int) -> list[dict]:
        make, seed = self.recipe.make, self.seed
        return [{"number": number, "row": make(seed, number)} for number in range(first, first + self.size)]

    def close(self) -> None:
        pass

"""A better prompt without training: instructions and examples, judged by the likelihood of a corpus's replies behind them."""

"""How long one epoch over a volume takes on this machine's card, through the estimate."""

from core.errors import UserError
from core.estimate import answer, catalogue
from core.estimate.setup import Setup


def seconds(model: str, volumes: list[int]) -> dict | None:
    """{"seconds": [...], "card"} of one QLoRA epoch over each volume; None where the estimate does not know the model."""
    try:
        card, free = catalogue.chosen()
        setup, shape = Setup(precision=answer.best_precision(card)), catalogue.shape(model)
        found = [answer.ask(shape, setup, card, tokens=tokens, epochs=1, free=free).epoch_seconds for tokens in volumes]
    except (UserError, OSError, ValueError, KeyError):
        return None
    return {"seconds": [round(one) for one in found], "card": card.name}

"""How long one epoch over a volume takes on this machine's card, through the estimate."""

from core.errors import UserError
from core.estimate import __main__ as command
from core.estimate import answer, catalogue


def seconds(model: str, volumes: list[int]) -> dict | None:
    """{"seconds": [...], "card"} of one QLoRA epoch over each volume; None where the estimate does not know the model."""
    try:
        setup, card, free = command.question(command.parser().parse_args(["--model", model, "--method", "qlora"]))
        shape = catalogue.shape(model)
        found = [answer.ask(shape, setup, card, tokens=tokens, epochs=1, free=free).epoch_seconds for tokens in volumes]
    except (UserError, SystemExit, OSError, ValueError, KeyError):
        return None
    return {"seconds": [round(one) for one in found], "card": card.name}

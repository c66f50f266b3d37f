"""Public calculators' formulas, for the comparison: what the person would have been told elsewhere."""

from core.estimate.setup import Setup, targets
from core.estimate.shape import ModelShape


def accelerate(shape: ModelShape, setup: Setup) -> float:
    """`accelerate estimate-memory`: four times the weights in the type they are loaded in, whatever the run is."""
    width = 0.5 if setup.method == "qlora" else setup.weight_width
    return 4 * shape.parameters * width


def rule_of_thumb(shape: ModelShape, setup: Setup) -> float:
    """Weights and a fifth, and 16 bytes for a trained parameter."""
    width = 0.5 if setup.method == "qlora" else setup.weight_width
    if setup.method == "full":
        return 16 * shape.parameters
    trained = shape.lora_parameters(setup.lora_rank, targets(setup, shape)) if setup.adapts else 0
    return 1.2 * shape.parameters * width + 16 * trained


FORMULAS = {"accelerate estimate-memory": accelerate, "weights x 1.2 + 16 B a trained parameter": rule_of_thumb}

"""bitsandbytes: 4-bit weights and 8-bit optimizer states against the processor's numbers; in a process of its own."""

import bitsandbytes as bnb
import torch

from core import errors
from core.check_card import advice
from core.check_card.results import result
from core.hardware import hardware, torch_build
from core.training import devices
from core.training.config import TrainConfig
from core.training.devices import distance

OUT, IN = 256, 512
NF4_ERROR = (0.04, 0.14)  # of normal weights in blocks of 64: 0.09 (QLoRA, arXiv:2305.14314, appendix E)
BOUND = 0.02  # of products in bf16, against the same weights in double precision
STEPS, MOVED = 5, 0.15  # 8-bit states have 256 values: so far from AdamW in fp32 may the weights end


def check_bnb_4bit() -> dict:
    """NF4: quantised and unpacked, and a linear layer forward, backward and for a single token."""
    if refused := _refused("bnb_4bit", method="qlora"):
        return refused
    draw, device = torch.Generator().manual_seed(0), devices.device()
    weight = torch.randn(OUT, IN, generator=draw) * 0.05
    fp16 = torch.float16 if devices.device_type() == "cuda" else torch.float32
    dtype = torch.bfloat16 if devices.has_bf16() else fp16
    layer = bnb.nn.Linear4bit(IN, OUT, bias=False, compute_dtype=dtype, quant_type="nf4")
    layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=True)
    layer = layer.to(device)
    layer.support_avx512bf16_for_cpu = False  # as model_loading.load_base() does
    unpacked = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).cpu().double()
    x = torch.randn(32, IN, generator=draw).to(dtype)
    given = x.to(device).requires_grad_()
    out = layer(given)
    out.backward(torch.ones_like(out))
    with torch.no_grad():
        single = layer(given[:1])  # the kernel of generation
    right, rounding = x.double() @ unpacked.T, distance(unpacked, weight.double())
    products = {
        "forward": distance(out.detach().cpu().double(), right),
        "backward": distance(given.grad.cpu().double(), unpacked.sum(0).expand(32, IN)),
        "single": distance(single.cpu().double(), right[:1]),
    }
    fine = NF4_ERROR[0] < rounding < NF4_ERROR[1] and all(error <= BOUND for error in products.values())
    value = {"bitsandbytes": bnb.__version__, "rounding": rounding} | products
    return _judged("bnb_4bit", fine, value, {"rounding": sum(NF4_ERROR) / 2} | dict.fromkeys(products, BOUND))


def check_bnb_8bit() -> dict:
    """A few steps of AdamW with 8-bit states against torch's own in fp32 on the processor."""
    if refused := _refused("bnb_8bit", method="lora", optim="adamw_8bit"):
        return refused
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(64, 256, generator=draw)  # below 4,096 weights the states stay in fp32
    gradients = [torch.randn(64, 256, generator=draw) for _ in range(STEPS)]
    ends = []
    for kind, device in ((torch.optim.AdamW, "cpu"), (bnb.optim.AdamW8bit, devices.device())):
        weight = torch.nn.Parameter(start.clone().to(device))
        optimizer = kind([weight], lr=0.01, weight_decay=0.0)
        for gradient in gradients:
            weight.grad = gradient.to(device)
            optimizer.step()
        ends.append(weight.detach().cpu().double() - start.double())
    error = distance(ends[1], ends[0])
    return _judged("bnb_8bit", error <= MOVED, {"error": error}, {"error": MOVED})


def _judged(name: str, fine: bool, value: dict, expected: dict) -> dict:
    wrong = None if fine else advice.numbers_wrong("bitsandbytes")
    return result(name, "ok" if fine else "broken", value, expected, wrong)


def _refused(name: str, **chosen) -> dict | None:
    """The result of a check that is left out because the app lets no such run onto this card."""
    if devices.device_type() == "cpu":
        return None
    reason, gpu = advice.refused(TrainConfig(base_model="", corpus="", **chosen)), hardware.card()
    if not reason and gpu and torch_build.four_bit_lacks(gpu) == "architecture":  # bitsandbytes has no code for it
        reason = errors.named("NoEightBitOptimizer", card=gpu.name, optim=chosen["optim"])
    return result(name, "ok", {"left_out": "unsupported"}, None, reason) if reason else None

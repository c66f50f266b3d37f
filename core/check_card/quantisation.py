"""bitsandbytes: 4-bit weights and 8-bit optimizer states against the processor's numbers; in a process of its own."""

from core.check_card import advice as advices
from core.check_card.results import result
from core.hardware import hardware, torch_build
from core.runs import assigned_gpu
from core.training import devices
from core.training.config import TrainConfig

OUT, IN = 256, 512
NF4_ERROR = (0.04, 0.14)  # of normal weights in blocks of 64: 0.09 (QLoRA, arXiv:2305.14314, appendix E)
BOUND = 0.02  # of products in bf16, against the same weights in double precision
STEPS, MOVED = 5, 0.15  # 8-bit states have 256 values: so far from AdamW in fp32 may the weights end


def advice(name: str, error: Exception) -> Exception:
    return advices.BitsandbytesUnusable(command=_install())


def _install() -> str:
    return advices.pip("--force-reinstall", "--no-deps", "bitsandbytes")


def bnb_4bit() -> dict:
    """NF4: quantised and unpacked, and a linear layer forward, backward and for a single token."""
    if found := _refused("bnb_4bit", method="qlora"):
        return found
    import bitsandbytes as bnb
    import torch

    draw, device = torch.Generator().manual_seed(0), devices.device()
    weight = torch.randn(OUT, IN, generator=draw) * 0.05
    dtype = (
        torch.bfloat16 if devices.has_bf16() else torch.float16 if devices.device_type() == "cuda" else torch.float32
    )
    params = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=True)
    layer = bnb.nn.Linear4bit(IN, OUT, bias=False, compute_dtype=dtype, quant_type="nf4")
    layer.weight = params
    layer = layer.to(device)
    layer.support_avx512bf16_for_cpu = False  # as model_loading.load_base() does
    unpacked = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).cpu().double()
    rounding = _apart(unpacked, weight.double())
    x = torch.randn(32, IN, generator=draw).to(dtype)
    given = x.to(device).requires_grad_()
    out = layer(given)
    out.backward(torch.ones_like(out))
    with torch.no_grad():
        single = layer(given[:1])  # the kernel of generation
    right = x.double() @ unpacked.T
    errors = {
        "rounding": rounding,
        "forward": _apart(out.detach().cpu().double(), right),
        "backward": _apart(given.grad.cpu().double(), unpacked.sum(0).expand(32, IN)),
        "single": _apart(single.cpu().double(), right[:1]),
    }
    expected = {"rounding": sum(NF4_ERROR) / 2, **dict.fromkeys(("forward", "backward", "single"), BOUND)}
    fine = NF4_ERROR[0] < rounding < NF4_ERROR[1] and all(errors[key] <= BOUND for key in errors if key != "rounding")
    wrong = None if fine else advices.NumbersWrong(package="bitsandbytes", command=_install())
    version = {"bitsandbytes": bnb.__version__}
    return result("bnb_4bit", "ok" if fine else "broken", version | errors, expected, wrong)


def bnb_8bit() -> dict:
    """A few steps of AdamW with 8-bit states against torch's own in fp32 on the processor."""
    if found := _refused("bnb_8bit", method="lora", optim="adamw_8bit"):
        return found
    import bitsandbytes as bnb
    import torch

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
    moved = _apart(ends[1], ends[0])
    fine = moved <= MOVED
    wrong = None if fine else advices.NumbersWrong(package="bitsandbytes", command=_install())
    return result("bnb_8bit", "ok" if fine else "broken", {"error": moved}, {"error": MOVED}, wrong)


def _refused(name: str, **chosen) -> dict | None:
    """The result of a check that is left out because the app lets no such run onto this card."""
    if devices.device_type() == "cpu":
        return None
    reason, gpu = advices.refused(TrainConfig(base_model="", corpus="", **chosen)), hardware.card()
    if not reason and gpu and torch_build.four_bit_lacks(gpu) == "architecture":  # bitsandbytes has no code for it
        reason = assigned_gpu.NoEightBitOptimizer(card=gpu.name, optim=chosen["optim"])
    return result(name, "ok", {"left_out": "unsupported"}, None, reason) if reason else None


def _apart(found, right) -> float:
    """The norm of the difference, relative."""
    return float((found - right).norm() / right.norm())
